"""Fulcrum: an order-fulfilment control plane.

An intent comes in over HTTP; a workflow run drives it to completion or undoes what was done.
To read the code in the order of an intent's journey:

1. ``fulcrum/web/intents.py``: an intent is validated and stored with its event.
2. ``fulcrum/store/relay.py``: the event leaves the outbox for Kafka.
3. ``fulcrum/saga/definitions.py``: the steps a workflow is made of.
4. ``fulcrum/saga/decide.py``: what an event means to a run.
5. ``fulcrum/agents/orchestrator.py``: the run is loaded, asked, stored, and its decision recorded.
6. ``fulcrum/agents/bridge.py``: the decision's commands go to RabbitMQ.
7. ``fulcrum/workers/service.py``: a command takes effect once, and its event goes back to 2.
8. ``fulcrum/readmodel/projection.py``: the decision becomes what people read.
"""

__version__ = "0.1.0"
