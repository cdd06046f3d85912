"""Git repositories made for the test, and servers on loopback that serve them as git's own programs do."""

import asyncio
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

IDENTITY = {
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "PATH": os.environ.get("PATH", ""),
}


@dataclass(frozen=True)
class Repository:
    """A repository with a work tree."""

    folder: Path

    @property
    def url(self) -> str:
        return f"file://{self.folder}"

    def git(self, *arguments: str) -> str:
        command = ["git", "-c", "protocol.file.allow=always", *arguments]
        done = subprocess.run(command, cwd=self.folder, env=IDENTITY, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, name: str, text: str = "x") -> str:
        """Write a file and commit it; the commit's name."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self.git("add", "-A")
        self.git("commit", "-qm", f"Write {name}")
        return self.git("rev-parse", "HEAD")


@dataclass
class WebServer:
    """`git http-backend` below a web server. `hold` lets the next fetches wait until `go` is set, then fail."""

    root: Path
    port: int = 0
    login: str = ""
    old_protocol: bool = False
    redirect_to: str = ""
    hold: bool = False
    reached: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)
    fetches: list[str] = field(default_factory=list)

    def url(self, repository: Repository, login: str = "", host: str = "127.0.0.1") -> str:
        at = f"{login}@" if login else ""
        return f"http://{at}{host}:{self.port}/{repository.folder.name}/.git"

    async def until_reached(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, 60)


class Server(ThreadingHTTPServer):
    """Keeps the state where its handlers find it."""

    daemon_threads = True

    def __init__(self, state: WebServer) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.state = state

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no news."""


class Handler(BaseHTTPRequestHandler):
    """Answers as the server's state says."""

    @property
    def state(self) -> WebServer:
        assert isinstance(self.server, Server)
        return self.server.state

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        pass

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self._body())
        self.state.fetches.append(self.path)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        return body

    def _answer(self, body: bytes) -> None:
        if self.state.redirect_to:
            self.send_response(302)
            self.send_header("Location", self.state.redirect_to + self.path)
            self.end_headers()
            return
        if self.state.login and self.headers.get("Authorization") != self.state.login:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="x"')
            self.end_headers()
            return
        if self.state.hold and self.command == "POST":
            self.state.reached.set()
            self.state.go.wait(60)
            self.close_connection = True
            return
        self._run_backend(body)

    def _run_backend(self, body: bytes) -> None:
        path, _question, query = self.path.partition("?")
        variables = {
            **IDENTITY,
            "GIT_PROJECT_ROOT": str(self.state.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
        }
        if not self.state.old_protocol:
            variables["GIT_PROTOCOL"] = self.headers.get("Git-Protocol", "")
        done = subprocess.run(["git", "http-backend"], input=body, env=variables, capture_output=True, check=False)
        head, _blank, data = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
        self.send_response(int(headers.pop("Status", "200").split(" ")[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving(state: WebServer) -> Iterator[WebServer]:
    """Serve until the block ends."""

    server = Server(state)
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        state.go.set()
        server.shutdown()
        thread.join()
        server.server_close()
