"""Which faults strike, and how often?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fulcrum.errors import Rejected


@dataclass(frozen=True, slots=True)
class Fault:
    """``rate`` is a probability: per message, step, call, workflow or world, as ``about`` says."""

    rate: float
    about: str


FAULTS: dict[str, Fault] = {
    "duplicate": Fault(
        0.01, "a message, timer or confirmed publish is there twice; a partition is read again"
    ),
    "delay": Fault(0.005, "a command comes minutes late; a partition stands still for as long"),
    "reorder": Fault(0.05, "a command is overtaken by others"),
    "drop": Fault(0.01, "a delivery or a fetch is lost and comes again later"),
    "crash": Fault(0.002, "a process dies, before or after each of its steps"),
    "clock": Fault(0.4, "in a world: the clock that fires timers jumps by up to two hours, and back"),
    "decline": Fault(0.06, "of a workflow: the provider refuses the payment"),
    "shortage": Fault(0.06, "of a workflow: it wants a SKU of which there is too little"),
    "unanswered": Fault(0.03, "of a call to the provider: it acts, acts later or does not, and says nothing"),
    "silence": Fault(0.25, "in a world, of a worker: it does nothing for minutes or hours"),
    "parked": Fault(0.002, "of a command: no copy can be carried out, until an operator replays it, or ever"),
    "expiry": Fault(0.1, "of a hold: it lapses by itself, in seconds or hours"),
    "cancel": Fault(0.12, "of a workflow: somebody cancels it, maybe twice, at any moment"),
    "operator": Fault(0.12, "of a workflow: people ask for anything; what they pause they resume"),
    "short": Fault(0.1, "of a pack job: some of its units are not to be found, or damaged"),
    "parcel": Fault(
        0.2, "of a workflow: its parcel is returned, lost, delayed, refused, or cannot be stopped"
    ),
    "uncaptured": Fault(0.03, "of a workflow: the provider holds the amount and refuses to capture it"),
    "unrefunded": Fault(0.1, "of a refund or void in the new flow: the provider refuses it for a while"),
    "hold": Fault(0.1, "of a workflow: it is held for a while, from the start or later, maybe twice"),
    "torn": Fault(0.5, "of a crash amid writing: decisions reach Kafka whose state does not"),
}
#: ``torn`` is what Kafka could do to two topics written side by side. The orchestrator has to rule it out.
USUAL = tuple(name for name in FAULTS if name != "torn")


@dataclass(frozen=True, slots=True)
class Faults:
    """The chosen faults with their rates. ``text`` is how they were asked for."""

    rates: Mapping[str, float] = field(default_factory=dict)
    text: str = "none"


def parse(text: str) -> Faults:
    """``all``, ``none``, or names, each with a rate of its own if it has one: ``crash=0.01,duplicate``."""
    if text == "none":
        return Faults()
    rates: dict[str, float] = {}
    for part in text.split(","):
        name, _, rate = part.strip().partition("=")
        if name == "all" and not rate:
            rates |= {each: FAULTS[each].rate for each in USUAL}
        elif name in FAULTS:
            rates[name] = _rate(name, rate) if rate else FAULTS[name].rate
        else:
            raise Rejected(f"--faults {part!r} is unknown; all, none, or some of {', '.join(FAULTS)}")
    return Faults(rates, text)


def _rate(name: str, text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0.0 <= rate <= 1.0:
        raise Rejected(f"--faults {name}={text}: the rate must be a number from 0 to 1")
    return rate
