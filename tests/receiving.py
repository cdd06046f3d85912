"""Servers that messages are sent to: HTTP receivers and a mail server, real ones, which remember what they got."""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiohttp import web
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from needs import need


@dataclass(frozen=True)
class Received:
    """A request that came in."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Receiver:
    """An HTTP server; `answer` says what each request gets."""

    url: str = ""
    got: list[Received] = field(default_factory=list)
    answer: Callable[[Received], Awaitable[web.StreamResponse]] | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Remember it and answer."""
        received = Received(request.raw_path, dict(request.headers), await request.read())
        self.got.append(received)
        self._news.set()
        return web.Response(status=204) if self.answer is None else await self.answer(received)

    async def has(self, count: int, timeout: float = 60.0) -> list[Received]:
        """Wait until so many have come in."""
        async with asyncio.timeout(timeout):
            while len(self.got) < count:
                self._news.clear()
                await self._news.wait()
        return self.got

    def always(self, status: int, text: str = "", headers: Mapping[str, str] | None = None) -> None:
        """Answer so from now on."""

        async def say(_received: Received) -> web.StreamResponse:
            return web.Response(status=status, text=text, headers=headers)

        self.answer = say


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver on a free port of loopback."""
    receiver = Receiver()
    app = web.Application(client_max_size=1024**3)
    app.router.add_route("*", "/{tail:.*}", receiver.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert runner.addresses
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield receiver
    finally:
        await runner.cleanup()


# --- mail ---------------------------------------------------------------------------------------


@dataclass
class MailBox:
    """What a mail server got. `refuse` maps addresses to what the server says to them."""

    port: int = 0
    mails: list[tuple[str, EmailMessage, bytes]] = field(default_factory=list)
    refuse: dict[str, str] = field(default_factory=dict)
    secure: list[bool] = field(default_factory=list)

    async def handle_RCPT(  # noqa: N802 - the library's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: Any
    ) -> str:
        """Take or refuse a recipient."""
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Keep a mail."""
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.secure.append(session.ssl is not None)
        self.mails += [(address, message, envelope.content) for address in envelope.rcpt_tos]
        return "250 kept"


def _authenticator(password: str) -> Callable[..., AuthResult]:
    def check(
        _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: LoginPassword
    ) -> AuthResult:
        right = data.login == b"yard" and data.password == password.encode()
        return AuthResult(success=right, handled=False)

    return check


@contextmanager
def mail_server(port: int, *, certificate: tuple[Path, Path] | None = None, password: str = "") -> Iterator[MailBox]:
    """A mail server in a thread; with a certificate it wants STARTTLS, with a password a user `yard`."""
    box = MailBox(port=port)
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*certificate)
    controller = Controller(
        box,
        hostname="127.0.0.1",
        port=port,
        tls_context=context,
        require_starttls=context is not None,
        authenticator=_authenticator(password) if password else None,
        auth_required=bool(password),
    )
    controller.start()
    try:
        yield box
    finally:
        controller.stop()


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and localhost, and its key."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = ["openssl", "req", *kind, *names, "-keyout", str(key), "-out", str(certificate)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        need(None, "openssl")
    return certificate, key
