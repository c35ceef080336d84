"""The real servers on one machine without containers: Kafka, RabbitMQ, Postgres, Redis, schema registry.

``Stack`` starts and stops them; ``Supervisor`` and ``running`` keep Fulcrum's own roles alive beside them.
"""

from fulcrum.localstack.process import StackError
from fulcrum.localstack.running import ROLES, Running, prepare, running
from fulcrum.localstack.stack import ServerHandle, ServerStatus, Stack
from fulcrum.localstack.supervisor import RoleProcess, Supervisor

__all__ = [
    "ROLES",
    "RoleProcess",
    "Running",
    "ServerHandle",
    "ServerStatus",
    "Stack",
    "StackError",
    "Supervisor",
    "prepare",
    "running",
]
