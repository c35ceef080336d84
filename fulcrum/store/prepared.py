"""Which statements does Postgres parse and plan once a session, and not each time they run?

Those that are made once and used as long as the process lives (``statements.lasting``). The second use on a
session prepares it, in the same round trip; a session of a pooler that hands transactions to any connection
does not find it again, and preparing is then given up for good.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import uuid4

import structlog

log = structlog.get_logger()

#: A place for a parameter, with the type that it is cast to, if any.
_PLACE = re.compile(
    r"CAST\(%\((?P<in>\w+)\)s AS (?P<as>[^()]+)\)"
    r"|%\((?P<name>\w+)\)s(?P<to>::(?:DOUBLE PRECISION|\w+(?: WITH(?:OUT)? TIME ZONE)?)(?:\[\])*)?"
    r"|%%"
)
#: Texts that were made and not sent, as of a transaction that failed before its COMMIT.
_MOST_UNSENT = 100

#: Puts parameters into a statement's places.
Fill = Callable[[str, Mapping[str, Any]], str]


@dataclass(frozen=True, slots=True)
class Form:
    """``definition`` has numbered places; ``call`` has the named ones of its arguments, in order."""

    definition: str
    call: str


@lru_cache(maxsize=1000)
def form_of(sql: str) -> Form:
    """How ``sql``, with places as psycopg2 names them, is prepared and called.

    A place keeps its cast on both sides, so that the parameter has one type and psycopg2's text of a list is
    taken for an array of it.
    """
    numbers: dict[str, int] = {}
    arguments: list[str] = []

    def numbered(match: re.Match[str]) -> str:
        name = match["in"] or match["name"]
        if name is None:
            return "%"
        if name not in numbers:
            numbers[name] = len(numbers) + 1
            arguments.append(match[0])
        place = f"${numbers[name]}"
        if match["in"]:
            return f"CAST({place} AS {match['as']})"
        return place + (match["to"] or "")

    definition = _PLACE.sub(numbered, sql)
    return Form(definition, f"({', '.join(arguments)})" if arguments else "")


class Prepared:
    """What one session has prepared.

    ``text`` is asked before a statement is sent, and what is sent runs ``within``: a name counts once its
    PREPARE has run.
    """

    #: Whether any session of this process prepares.
    wanted = True

    def __init__(self) -> None:
        self._prefix = f"f_{uuid4().hex[:12]}"
        self._made = 0
        self._used: set[str] = set()
        self._names: dict[str, str] = {}
        self._sent: dict[str, str] = {}

    def text(self, sql: str, parameters: Mapping[str, Any], fill: Fill) -> str:
        """What to send for a lasting statement, its parameters in place."""
        if not self.wanted or sql not in self._used:
            self._used.add(sql)
            return fill(sql, parameters)
        form = form_of(sql)
        name = self._names.get(sql)
        if name is not None:
            return fill(f"EXECUTE {name}{form.call}", parameters)
        if len(self._sent) >= _MOST_UNSENT:
            self._sent.clear()
        self._made += 1
        name = f"{self._prefix}_{self._made}"
        self._sent[name] = sql
        return f"PREPARE {name} AS {form.definition}; {fill(f'EXECUTE {name}{form.call}', parameters)}"

    @contextmanager
    def within(self, sent: str) -> Iterator[None]:
        """Around the execution of ``sent``. What was to be prepared in one that fails is prepared under
        another name next time: nobody knows how far it came."""
        names = [name for name in self._sent if f"PREPARE {name} " in sent]
        asked = {name: self._sent.pop(name) for name in names}
        yield
        self._names |= {sql: name for name, sql in asked.items()}

    @classmethod
    def give_up(cls) -> None:
        """Prepare nothing any more: what was prepared is not found again."""
        if cls.wanted:
            log.warning("store.prepares_no_more", reason="a pooler lends other connections in between")
            cls.wanted = False
