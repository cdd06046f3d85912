"""Statements: SQLAlchemy Core constructs compiled once per database into SQL text and a parameter order.

Building and compiling a construct costs a third of a millisecond, running it a hundredth: hence
module-level statements, compiled on first use. A statement may not hold `IN` lists of values.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import BindParameter, Table, bindparam, insert
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement

Value = int | str | bytes | None
Row = Sequence[Any]
"""A result row by position. Which types the columns have is known to the one decoder of each module."""


def _with_constants(bindparam: BindParameter[Any], how: dict[str, Any]) -> dict[str, Any]:
    """Have the construct's own values written as literals: an index `WHERE phase = 1` does not serve `phase = $2`."""
    return how if bindparam.required else {**how, "literal_binds": True}


class _SqliteCompiler(SQLiteCompiler):
    def visit_bindparam(self, bindparam: BindParameter[Any], *rest: Any, **how: Any) -> Any:
        visit: Any = super().visit_bindparam
        return visit(bindparam, *rest, **_with_constants(bindparam, how))


SQLITE = sqlite.dialect(paramstyle="named")
SQLITE.statement_compiler = _SqliteCompiler


@cache
def _postgres_dialect() -> Any:
    """PostgreSQL's dialect, imported where it is used: it takes several megabytes."""
    from sqlalchemy.dialects.postgresql import asyncpg

    class PostgresCompiler(asyncpg.PGCompiler_asyncpg):
        def visit_bindparam(self, bindparam: BindParameter[Any], *rest: Any, **how: Any) -> Any:
            visit: Any = super().visit_bindparam
            return visit(bindparam, *rest, **_with_constants(bindparam, how))

    dialect = asyncpg.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it unannotated
    dialect.statement_compiler = PostgresCompiler
    return dialect


class Statement:
    """One SQL statement, for both databases."""

    __slots__ = ("_postgres", "_sqlite", "construct")

    def __init__(self, construct: Executable) -> None:
        self.construct = construct
        self._sqlite: str | None = None
        self._postgres: tuple[str, tuple[str, ...]] | None = None

    @property
    def sqlite(self) -> str:
        """The text with `:name` parameters."""
        if self._sqlite is None:
            self._sqlite = _compiled(self.construct, SQLITE).string
        return self._sqlite

    @property
    def postgres(self) -> tuple[str, tuple[str, ...]]:
        """The text with `$1` parameters, and their names in order."""
        if self._postgres is None:
            compiled = _compiled(self.construct, _postgres_dialect())
            self._postgres = compiled.string, tuple(compiled.positiontup or ())
        return self._postgres

    def arguments(self, values: Mapping[str, Value]) -> tuple[Value, ...]:
        """The values in the order of PostgreSQL's parameters."""
        return tuple([values[name] for name in self.postgres[1]])


def _compiled(construct: Executable, dialect: Any) -> SQLCompiler:
    assert isinstance(construct, ClauseElement)
    compiled = construct.compile(dialect=dialect)
    assert isinstance(compiled, SQLCompiler)
    return compiled


def insertion(table: Table, *skip: str) -> Statement:
    """An INSERT that takes every column of `table` by its name, except those in `skip`."""
    names = [column.name for column in table.columns if column.name not in skip]
    return Statement(insert(table).inline().values({name: bindparam(name) for name in names}))


def given(name: str) -> BindParameter[Any]:
    """A parameter of a statement; values are bound when it is executed."""
    return bindparam(name)
