"""How a SQLAlchemy Core statement becomes SQL text and parameters for psycopg2."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement

Parameters = Mapping[str, Any]

_DIALECT = PGDialect_psycopg2(paramstyle="pyformat")  # type: ignore[no-untyped-call]
#: Statements are written in code, so their structures are few; a run-away caller costs time, not memory.
_CACHE_LIMIT = 1000
_cache: dict[object, SQLCompiler] = {}
#: By the statement itself; its structure need not be looked at again.
_lasting: dict[ClauseElement, _Lasting] = {}

#: The texts of those.
_lasting_texts: set[str] = set()

_Statement = TypeVar("_Statement", bound=ClauseElement)


@dataclass(frozen=True, slots=True)
class _Lasting:
    """A compiled statement, and what SQLAlchemy would find out about its parameters at each use."""

    text: str
    #: Values that are written in the statement, by the name of their place, as psycopg2 takes them.
    written: Mapping[str, Any]
    given: frozenset[str]
    processors: Mapping[str, Callable[[Any], Any]]

    def bound(self, parameters: Parameters) -> dict[str, Any]:
        """The values of all places; KeyError names one that is missing."""
        values = {**self.written, **{name: parameters[name] for name in self.given}}
        for name, process in self.processors.items():
            values[name] = process(values[name])
        return values


def _lasting_form(compiler: SQLCompiler) -> _Lasting:
    given = frozenset(name for place, name in compiler.bind_names.items() if place.required)
    # Their values are not known yet, and an IN list among them would need a text for each length.
    blank = dict.fromkeys(given)
    if expanding := given & {compiler.bind_names[place] for place in compiler.post_compile_params}:
        raise TypeError(f"a statement that lasts takes no IN list: {', '.join(sorted(expanding))}")
    text, bound = _bind(compiler, compiler.construct_params(blank), without=given)
    processors = {
        name: each for name, each in compiler._bind_processors.items() if name in given and callable(each)
    }
    return _Lasting(text, {n: v for n, v in bound.items() if n not in given}, given, processors)


def lasting(statement: _Statement) -> _Statement:
    """``statement``, which is made once and used as long as the process lives: it is compiled now, and
    prepared on the sessions that use it.

    Every value in it that changes is a ``bindparam``, and none an ``IN`` list.
    """
    _lasting[statement] = _lasting_form(_compile(statement, None))
    _lasting_texts.add(_lasting[statement].text)
    return statement


def is_lasting(sql: str) -> bool:
    """Whether ``sql`` is the text of a lasting statement."""
    return sql in _lasting_texts


def compiled(statement: ClauseElement, parameters: Parameters | None = None) -> tuple[str, dict[str, Any]]:
    """SQL and bound parameters; ``parameters`` fills the statement's ``bindparam`` places by name.

    The text is cached by the statement's structure, except for ``INSERT ... VALUES`` of several rows, which
    SQLAlchemy cannot tell apart by structure: use ``fulcrum.store.bulk`` for those.
    """
    lasting = _lasting.get(statement)
    if lasting is not None:
        return lasting.text, lasting.bound(parameters or {})
    # SQLAlchemy's own engines do the same; it has no public name for the structural key.
    key = statement._generate_cache_key()
    if key is None:
        compiler = _compile(statement, None)
        values = compiler.construct_params(parameters)
    else:
        compiler = _cache.get(key.key) or _remember(key.key, _compile(statement, key))
        values = compiler.construct_params(parameters, extracted_parameters=key.bindparams)
    return _bind(compiler, values)


def _compile(statement: ClauseElement, key: object) -> SQLCompiler:
    return cast(SQLCompiler, statement.compile(dialect=_DIALECT, cache_key=key))


def _remember(key: object, compiler: SQLCompiler) -> SQLCompiler:
    if len(_cache) >= _CACHE_LIMIT:
        _cache.clear()
    _cache[key] = compiler
    return compiler


def _bind(
    compiler: SQLCompiler, values: Mapping[str, Any], without: Collection[str] = ()
) -> tuple[str, dict[str, Any]]:
    """Expand ``IN`` lists and turn values into what psycopg2 adapts (JSON objects into text, ...), all but
    those ``without``."""
    text, processors = compiler.string, compiler._bind_processors
    if compiler.post_compile_params:
        expanded = compiler.construct_expanded_state(dict(values))
        text, values = expanded.statement, expanded.parameters
        processors = {**processors, **expanded.processors}
    bound = dict(values)
    for name, process in processors.items():
        if name in bound and name not in without and callable(process):
            bound[name] = process(bound[name])
    return text, bound
