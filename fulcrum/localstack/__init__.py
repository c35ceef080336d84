"""The real servers on one machine without containers: Kafka, RabbitMQ, Postgres, Redis, schema registry.

``Stack`` starts and stops them; ``Supervisor`` and ``running`` keep Fulcrum's own roles alive beside them.
"""

from fulcrum.localstack.process import StackError
from fulcrum.localstack.stack import ServerStatus, Stack

__all__ = ["ServerStatus", "Stack", "StackError"]
