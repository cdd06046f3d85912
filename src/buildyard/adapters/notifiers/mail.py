"""Mail by SMTP: what was built, how it ended, what failed with the ends of its logs, and where to read on."""

import asyncio
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as POLICY
from email.utils import formatdate
from typing import TYPE_CHECKING, Literal

from buildyard.adapters.notifiers.posting import plain
from buildyard.domain.ids import SECOND, iso
from buildyard.domain.news import FailedJob, News
from buildyard.domain.notifications import EmailTarget
from buildyard.domain.sources import shown_url
from buildyard.domain.states import Result
from buildyard.ports import ANSWER_BYTES, Letter, Notice, Outcome

if TYPE_CHECKING:
    from aiosmtplib import SMTP

PORTS = {"none": 25, "starttls": 587, "tls": 465}
SUBJECT_LENGTH = 200

WORDS = {
    Result.SUCCESS: "succeeded",
    Result.WARNINGS: "succeeded with warnings",
    Result.FAILURE: "failed",
    Result.DEPENDENCY_FAILED: "failed",
    Result.CANCELLED: "was cancelled",
    Result.SKIPPED: "was skipped",
    Result.TIMEOUT: "ran out of time",
    Result.ERROR: "ended with an error",
    Result.LOG_LIMIT: "failed: too much output",
    Result.OUTPUT_LIMIT: "failed: too large files",
}

_ESCAPES = re.compile(r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b\[[0-?]*[ -/]*[@-~]|\x1b.?")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """The server that mail is handed to, and how. `port` 0 is the usual one."""

    host: str
    port: int = 0
    security: Literal["none", "starttls", "tls"] = "starttls"
    user: str = ""
    password: str = field(default="", repr=False)
    sender: str = ""
    ca_file: str = ""


class MailNotifier:
    """Hands mail to one server; a connection for each message."""

    def __init__(self, server: MailServer, *, timeout_s: float = 20.0) -> None:
        self._server = server
        self._timeout_s = timeout_s

    async def send(self, notice: Notice) -> Outcome:
        """See Notifier. A refusal for good (5xx) is final, but for one to sign in, which people can put right."""
        from aiosmtplib import SMTPAuthenticationError, SMTPException, SMTPRecipientsRefused, SMTPResponseException

        message = mail(notice, self._server.sender).as_bytes(policy=POLICY)
        request = plain(message, ANSWER_BYTES)
        try:
            async with asyncio.timeout(self._timeout_s):
                said = await self._hand_over(notice.address, message)
        except TimeoutError:
            return Outcome(
                delivered=False, error=f"the mail server did not answer within {self._timeout_s:g} s", request=request
            )
        except SMTPRecipientsRefused as exc:
            first = exc.recipients[0]
            return _refused(first.code, first.message, request, final=first.code >= 500)
        except SMTPResponseException as exc:
            final = exc.code >= 500 and not isinstance(exc, SMTPAuthenticationError)
            return _refused(exc.code, exc.message, request, final=final)
        except (SMTPException, OSError) as exc:
            return Outcome(delivered=False, error=f"the mail server cannot be reached: {exc}", request=request)
        return Outcome(delivered=True, status=250, request=request, body=plain(said.encode(), ANSWER_BYTES))

    async def _hand_over(self, recipient: str, message: bytes) -> str:
        client = self._client()
        async with client:
            if self._server.user:
                await client.login(self._server.user, self._server.password)
            _, said = await client.sendmail(self._server.sender, [recipient], message)
        return said

    def _client(self) -> "SMTP":
        from aiosmtplib import SMTP

        server = self._server
        context = ssl.create_default_context(cafile=server.ca_file or None) if server.security != "none" else None
        return SMTP(
            hostname=server.host,
            port=server.port or PORTS[server.security],
            use_tls=server.security == "tls",
            start_tls=server.security == "starttls",
            tls_context=context,
            timeout=self._timeout_s,
        )


def _refused(code: int, said: str, request: str, *, final: bool) -> Outcome:
    told = plain(said.encode("utf-8", "replace"), 1000)
    return Outcome(delivered=False, final=final, status=code, error=f"the mail server said {code} {told}",
                   request=request, body=told)  # fmt: skip


def mail(notice: Notice, sender: str) -> EmailMessage:
    """The message. Its id follows from the delivery's uid, so that a repetition can be told as one."""
    domain = sender.rpartition("@")[2]
    message = EmailMessage(policy=POLICY)
    message["From"] = Address("Buildyard", addr_spec=sender)
    if isinstance(notice.written, Letter):
        _write(message, notice, notice.written, domain)
    else:
        _word(message, notice, domain)
    message["Auto-Submitted"] = "auto-generated"
    message["X-Buildyard-Delivery"] = notice.uid
    return message


def _write(message: EmailMessage, notice: Notice, letter: Letter, domain: str) -> None:
    """Put in a letter: the same for everyone it goes to, so that answers and threads find together."""
    target = notice.target
    assert isinstance(target, EmailTarget)
    message["To"] = [Address(addr_spec=each) for each in target.to]
    if target.cc:
        message["Cc"] = [Address(addr_spec=each) for each in target.cc]
    if target.in_reply_to:
        message["In-Reply-To"] = one_line(target.in_reply_to)
    message["Subject"] = one_line(letter.subject)[:SUBJECT_LENGTH]
    message["Date"] = formatdate(usegmt=True)
    message["Message-ID"] = f"<{letter.thread}@{domain}>"
    text = "\n".join(one_line(line) for line in letter.text.split("\n"))
    message.set_content(f"{text}\n", charset="utf-8")


def _word(message: EmailMessage, notice: Notice, domain: str) -> None:
    news = notice.news
    assert news is not None
    message["To"] = Address(addr_spec=notice.address)
    message["Subject"] = one_line(subject(news))[:SUBJECT_LENGTH]
    message["Date"] = formatdate((news.finished_at or news.created_at) / SECOND, usegmt=True)
    message["Message-ID"] = f"<{notice.uid}@{domain}>"
    message.set_content("\n".join(lines(news)) + "\n", charset="utf-8")


def subject(news: News) -> str:
    """What a list of mails shows."""
    return f"[{news.project}] {news.pipeline} #{news.number} {_said(news)}"


def _said(news: News) -> str:
    return "is running" if news.result is None else WORDS[news.result]


def one_line(text: str) -> str:
    """Text without line breaks and control characters: nothing of it can become a header or move a cursor."""
    return _CONTROL.sub(" ", _ESCAPES.sub("", text))


def lines(news: News) -> Iterator[str]:
    """The text, line by line."""
    yield f"Build {news.number} of {one_line(news.pipeline_name)} in {one_line(news.project)} {_said(news)}."
    if news.detail:
        yield one_line(news.detail)
    yield ""
    yield from (f"{name + ':':<12}{one_line(value)}" for name, value in _facts(news) if value)
    for job in news.failed:
        yield ""
        yield from _failed(job)
    if news.failures > len(news.failed):
        yield ""
        yield f"And {news.failures - len(news.failed)} more failed jobs."
    yield ""
    yield news.link


def _facts(news: News) -> Iterator[tuple[str, str]]:
    yield "Source", " ".join(part for part in (shown_url(news.repository), news.branch, news.commit[:12]) if part)
    yield "Change", news.message.partition("\n")[0]
    yield "Author", news.author
    yield "Started by", news.submitter
    yield "Note", news.note
    yield "Finished", iso(news.finished_at) if news.finished_at else ""


def _failed(job: FailedJob) -> Iterator[str]:
    where = f"{job.job}, step {job.step}" if job.step else job.job
    said = f": {job.detail}" if job.detail else ""
    yield one_line(f"{where} {WORDS[job.result]}{said}")
    yield from (f"    {one_line(line)}" for line in job.tail)
