"""Adds a migration for what `store/tables.py` has and the newest one lacks: `python tools/new_migration.py "why"`.

Alembic does not see indexes on expressions (`jobs`), nor references both ways: add those by hand.
"""

import sys
import tempfile
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from buildyard.store.schema import MIGRATIONS, migrate


def main(why: str) -> None:
    """Compare a freshly migrated SQLite database with the tables; the file must be read over before it is kept."""
    count = len(list((MIGRATIONS / "versions").glob("r*.py")))
    with tempfile.TemporaryDirectory() as folder:
        engine = create_engine(f"sqlite:///{Path(folder) / 'empty.sqlite'}")
        with engine.begin() as connection:
            if count:
                migrate(connection)
            config = Config()
            config.set_main_option("script_location", str(MIGRATIONS))
            config.set_main_option("path_separator", "os")
            config.set_main_option("file_template", "r%%(rev)s_%%(slug)s")
            config.attributes["connection"] = connection
            command.revision(config, why, autogenerate=True, rev_id=f"{count + 1:04}")
        engine.dispose()


if __name__ == "__main__":
    main(sys.argv[1])
