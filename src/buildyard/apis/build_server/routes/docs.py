"""The API's own description, for programs and for people."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from buildyard.apis.build_server import openapi
from buildyard.apis.build_server.docs_page import docs_page
from buildyard.apis.build_server.routes.api import Api

_PAGE = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


class DocsRoutes:
    """The handlers; both documents are made once."""

    def __init__(self, api: Api) -> None:
        described = openapi.document(api.config.public_url)
        self._document = msgspec.json.format(msgspec.json.encode(described), indent=1)
        self._page = docs_page(described)

    async def document(self, _request: Request) -> Response:
        """`GET /api/openapi.json` and `GET /docs/openapi.json`."""
        return Response(self._document, media_type="application/json")

    async def page(self, _request: Request) -> Response:
        """`GET /docs`."""
        return Response(self._page, headers=_PAGE, media_type="text/html")
