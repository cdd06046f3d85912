"""The REST part of the builds.sr.ht API as one application."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from buildyard.apis.sourcehut.config import SourcehutConfig
from buildyard.apis.sourcehut.errors import Refused, on_engine_error, on_http_error, on_refused, on_unforeseen
from buildyard.apis.sourcehut.groups import GroupRoutes
from buildyard.apis.sourcehut.jobs import JobRoutes
from buildyard.domain.errors import EngineError
from buildyard.engine.engine import Engine

PATHS = ("/api/jobs", "/api/job-group")
"""What this application owns, for the dispatcher."""


def sourcehut_app(engine: Engine, config: SourcehutConfig) -> Starlette:
    """The sub-application for PATHS."""
    app = Starlette(
        routes=[*JobRoutes(engine, config).routes(), *GroupRoutes(engine, config).routes()],
        exception_handlers={
            EngineError: on_engine_error,
            Refused: on_refused,
            HTTPException: on_http_error,
            Exception: on_unforeseen,
        },
    )
    app.router.redirect_slashes = False
    return app
