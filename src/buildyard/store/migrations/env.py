"""Run by Alembic for each command: works on the connection that `store.schema` hands over."""

from typing import Any, Literal

from alembic import context
from sqlalchemy import Text

from buildyard.store.tables import metadata


def render(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Write text columns as the migrations' own short name for them, which the template defines."""
    return "TEXT" if kind == "type" and isinstance(item, Text) else False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    render_item=render,
)
context.run_migrations()
