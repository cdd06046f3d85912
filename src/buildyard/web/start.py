"""The page at `/`, and the answer for addresses that nothing owns."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from buildyard.version import VERSION

START = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Buildyard</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ margin: 0; font: 16px/1.5 system-ui, sans-serif; }}
main {{ max-width: 44rem; margin: 0 auto; padding: 2rem 1.25rem; }}
pre {{ padding: .75rem 1rem; border: 1px solid #8884; border-radius: .5rem; overflow-x: auto; }}
</style>
</head>
<body>
<main>
<h1>Buildyard {VERSION}</h1>
<p>This server builds, tests and runs software.</p>
<ul>
<li><a href="/docs">Build Server API</a>: every operation, to look through</li>
<li><a href="/health">Health</a> and <a href="/metrics">metrics</a></li>
</ul>
<p>From a terminal, where BUILDYARD_URL is this address and BUILDYARD_TOKEN a token:</p>
<pre>buildyard run .      # build this folder
buildyard builds     # what was built
buildyard logs -f 7  # follow build 7</pre>
</main>
</body>
</html>
"""
HEADERS = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'", "x-frame-options": "DENY"}


async def start(_request: Request) -> Response:
    """What this server is, and where to go from here."""
    return HTMLResponse(START, headers=HEADERS)


async def nothing(_request: Request, _exc: Exception) -> Response:
    """The answer for an unknown address."""
    return PlainTextResponse("There is nothing at this address.\n", 404)


def start_app() -> Starlette:
    """The sub-application for `/` and for what nothing else owns."""
    return Starlette(routes=[Route("/", start)], exception_handlers={404: nothing})
