"""Statements: SQLAlchemy Core constructs compiled once per database into SQL text and a parameter order.

Building and compiling a construct costs a third of a millisecond, running it a hundredth: hence
module-level statements, compiled on first use. A statement may not hold `IN` lists of values.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import BindParameter, Table, bindparam, insert
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement

Value = int | str | bytes | None
Row = Sequence[Any]
"""A result row by position. Which types the columns have is known to the one decoder of each module."""

SQLITE = sqlite.dialect(paramstyle="named")
POSTGRES = asyncpg_dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it unannotated


class Statement:
    """One SQL statement, for both databases."""

    __slots__ = ("_postgres", "_sqlite", "construct")

    def __init__(self, construct: Executable) -> None:
        self.construct = construct
        self._sqlite: tuple[str, dict[str, Value]] | None = None
        self._postgres: tuple[str, tuple[str, ...], dict[str, Value]] | None = None

    @property
    def sqlite(self) -> tuple[str, dict[str, Value]]:
        """The text with `:name` parameters, and the values of constants in the construct."""
        if self._sqlite is None:
            compiled = _compiled(self.construct, SQLITE)
            self._sqlite = compiled.string, _constants(compiled)
        return self._sqlite

    @property
    def postgres(self) -> tuple[str, tuple[str, ...], dict[str, Value]]:
        """The text with `$1` parameters, their names in order, and the values of constants."""
        if self._postgres is None:
            compiled = _compiled(self.construct, POSTGRES)
            self._postgres = compiled.string, tuple(compiled.positiontup or ()), _constants(compiled)
        return self._postgres

    def arguments(self, values: Mapping[str, Value]) -> tuple[Value, ...]:
        """The values in the order of PostgreSQL's parameters."""
        _, names, constants = self.postgres
        return tuple(values[name] if name in values else constants[name] for name in names)


def _compiled(construct: Executable, dialect: Any) -> SQLCompiler:
    assert isinstance(construct, ClauseElement)
    compiled = construct.compile(dialect=dialect)
    assert isinstance(compiled, SQLCompiler)
    return compiled


def _constants(compiled: SQLCompiler) -> dict[str, Value]:
    return {name: value for name, value in compiled.params.items() if value is not None}


def insertion(table: Table, *skip: str) -> Statement:
    """An INSERT that takes every column of `table` by its name, except those in `skip`."""
    names = [column.name for column in table.columns if column.name not in skip]
    return Statement(insert(table).values({name: bindparam(name) for name in names}))


def given(name: str) -> BindParameter[Any]:
    """A parameter of a statement; values are bound when it is executed."""
    return bindparam(name)
