"""How a SQLAlchemy Core statement becomes SQL text and parameters for psycopg2."""

from __future__ import annotations

from collections.abc import Mapping
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
_lasting: dict[ClauseElement, SQLCompiler] = {}

_Statement = TypeVar("_Statement", bound=ClauseElement)


def lasting(statement: _Statement) -> _Statement:
    """``statement``, which is made once and used as long as the process lives: it is compiled now.

    Every value in it that changes is a ``bindparam``.
    """
    _lasting[statement] = _compile(statement, None)
    return statement


def compiled(statement: ClauseElement, parameters: Parameters | None = None) -> tuple[str, dict[str, Any]]:
    """SQL and bound parameters; ``parameters`` fills the statement's ``bindparam`` places by name.

    The text is cached by the statement's structure, except for ``INSERT ... VALUES`` of several rows, which
    SQLAlchemy cannot tell apart by structure: use ``fulcrum.store.bulk`` for those.
    """
    compiler = _lasting.get(statement)
    if compiler is not None:
        return _bind(compiler, compiler.construct_params(parameters))
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


def _bind(compiler: SQLCompiler, values: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Expand ``IN`` lists and turn values into what psycopg2 adapts (JSON objects into text, ...)."""
    text, processors = compiler.string, compiler._bind_processors
    if compiler.post_compile_params:
        expanded = compiler.construct_expanded_state(dict(values))
        text, values = expanded.statement, expanded.parameters
        processors = {**processors, **expanded.processors}
    bound = dict(values)
    for name, process in processors.items():
        if name in bound and callable(process):
            bound[name] = process(bound[name])
    return text, bound
