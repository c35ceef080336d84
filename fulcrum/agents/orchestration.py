"""The agents' process: orchestrator, clock, bridge and table views in one Faust app."""

from __future__ import annotations

from fulcrum.agents.app import GuardedApp, create_app
from fulcrum.agents.bridge import add_bridge
from fulcrum.agents.clock import Clock, add_clock
from fulcrum.agents.orchestrator import add_orchestrator
from fulcrum.agents.views import add_views
from fulcrum.settings import Settings
from fulcrum.tables.runs import runs_table
from fulcrum.wire.codec import Codec

DEFAULT_PORT = 6066
#: Seconds between two fetches: five lie on the way of a workflow with two steps.
_PACE = 0.005


def build_agents(settings: Settings, codec: Codec) -> GuardedApp:
    """The app of the agents' process."""
    app = create_app(settings, "orchestrator", DEFAULT_PORT, _PACE)
    runs = runs_table(app, settings.partitions)
    clock = Clock(app, settings, codec, runs)
    add_orchestrator(app, settings, codec, runs, clock)
    add_clock(app, clock)
    add_bridge(app, settings, codec)
    add_views(app, runs, codec, settings.partitions)
    return app
