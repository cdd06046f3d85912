"""Mail through a real SMTP server: with and without encryption and a password, refusals, odd texts."""

import socket
from collections.abc import Callable
from email.header import decode_header, make_header
from pathlib import Path

import pytest

from buildyard.adapters.notifiers.mail import MailNotifier, MailServer
from buildyard.domain.notifications import EmailTarget
from buildyard.domain.states import Result
from buildyard.ports import Notice
from receiving import mail_server, make_certificate

MakeNotice = Callable[..., Notice]
HEADERS = {
    *("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "X-Buildyard-Delivery"),
    *("Content-Type", "Content-Transfer-Encoding", "MIME-Version"),
}
TARGET = EmailTarget(to=("dev@example.org",))


@pytest.fixture
def port() -> int:
    """A free port."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def plain_server(port: int) -> MailNotifier:
    return MailNotifier(
        MailServer(host="127.0.0.1", port=port, security="none", sender="yard@example.org"), timeout_s=30.0
    )


@pytest.mark.covers("telling.mail")
async def test_mail_says_what_was_built_what_failed_and_where_to_read_on(port: int, make_notice: MakeNotice) -> None:
    with mail_server(port) as box:
        outcome = await plain_server(port).send(make_notice(TARGET, address="dev@example.org"))

    ((to, mail, _),) = box.mails
    text = mail.get_content().replace("\r\n", "\n")
    assert (outcome.delivered, outcome.status, to) == (True, 250, "dev@example.org")
    assert mail["Subject"] == "[hello] main #3 failed"
    assert (mail["To"], mail["From"]) == ("dev@example.org", "Buildyard <yard@example.org>")
    assert mail["Message-ID"] == "<0190aaaa-0000-7000-8000-00000000000d@example.org>"
    assert mail["Auto-Submitted"] == "auto-generated"
    for words in (
        "tests, step pytest failed: exit status 1",
        "    E   assert 1 == 2\n",
        "Größer",
        "Jürgen",
        "bob",
        "https://***@example.org/hello.git topic cccccccccccc",
        "\nhttp://yard.example.org/-/api/v1/builds/7",
    ):
        assert words in text
    assert "\x1b" not in text
    assert "secret" not in text


@pytest.mark.covers("telling.mail")
async def test_a_repetition_is_the_same_mail_with_the_same_id(port: int, make_notice: MakeNotice) -> None:
    with mail_server(port) as box:
        for _ in range(2):
            await plain_server(port).send(make_notice(TARGET, address="dev@example.org"))

    (_, _, first), (_, _, second) = box.mails
    assert first == second


@pytest.mark.covers("telling.mail.safe")
@pytest.mark.parametrize(
    "name", ["x\r\nBcc: evil@example.org", "x\nSubject: y", "größe 🏗", "\x1b]0;t\x07x\u2028y", "ü" * 400]
)
async def test_no_text_becomes_a_header_and_every_text_arrives(port: int, make_notice: MakeNotice, name: str) -> None:
    with mail_server(port) as box:
        outcome = await plain_server(port).send(
            make_notice(TARGET, address="dev@example.org", project=name, message=name, note="." + name)
        )

    ((_, mail, raw),) = box.mails
    assert outcome.delivered
    assert set(mail.keys()) == HEADERS
    subject = str(make_header(decode_header(mail["Subject"])))
    assert "\n" not in subject
    assert subject[1:2] == name[:1] or name.startswith("\x1b")
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998


@pytest.mark.covers("telling.mail")
async def test_starttls_and_a_password_are_used_where_the_server_wants_them(
    port: int, tmp_path: Path, make_notice: MakeNotice
) -> None:
    certificate = make_certificate(tmp_path)
    server = MailServer(host="localhost", port=port, security="starttls", user="yard", password="pass wörd",
                        sender="yard@example.org", ca_file=str(certificate[0]))  # fmt: skip
    with mail_server(port, certificate=certificate, password="pass wörd") as box:
        outcome = await MailNotifier(server, timeout_s=30.0).send(make_notice(TARGET, address="dev@example.org"))

    assert (outcome.delivered, outcome.error, box.secure) == (True, "", [True])
    assert "pass wörd" not in repr(server)


@pytest.mark.covers("telling.mail")
async def test_a_server_whose_certificate_is_not_trusted_gets_nothing(
    port: int, tmp_path: Path, make_notice: MakeNotice
) -> None:
    server = MailServer(host="localhost", port=port, security="starttls", sender="yard@example.org")
    with mail_server(port, certificate=make_certificate(tmp_path)) as box:
        outcome = await MailNotifier(server, timeout_s=30.0).send(make_notice(TARGET, address="dev@example.org"))

    assert (outcome.delivered, outcome.final, box.mails) == (False, False, [])


@pytest.mark.covers("telling.mail")
async def test_a_wrong_password_is_tried_again_for_people_can_put_it_right(
    port: int, tmp_path: Path, make_notice: MakeNotice
) -> None:
    certificate = make_certificate(tmp_path)
    server = MailServer(host="localhost", port=port, security="starttls", user="yard", password="wrong",
                        sender="yard@example.org", ca_file=str(certificate[0]))  # fmt: skip
    with mail_server(port, certificate=certificate, password="right"):
        outcome = await MailNotifier(server, timeout_s=30.0).send(make_notice(TARGET, address="dev@example.org"))

    assert (outcome.delivered, outcome.final, outcome.status) == (False, False, 535), outcome.error
    assert "wrong" not in outcome.error


@pytest.mark.covers("telling.mail", "telling.retries")
@pytest.mark.parametrize(("said", "final"), [("550 no such user", True), ("451 later, please", False)])
async def test_a_refused_recipient_is_final_or_not_as_the_server_says(
    port: int, make_notice: MakeNotice, said: str, final: bool
) -> None:
    with mail_server(port) as box:
        box.refuse["dev@example.org"] = said
        outcome = await plain_server(port).send(make_notice(TARGET, address="dev@example.org"))

    assert (outcome.delivered, outcome.final, outcome.status) == (False, final, int(said[:3]))
    assert said[4:] in outcome.error


async def test_a_mail_server_that_is_away_is_tried_again(port: int, make_notice: MakeNotice) -> None:
    outcome = await plain_server(port).send(make_notice(TARGET, address="dev@example.org"))

    assert (outcome.delivered, outcome.final) == (False, False)
    assert "cannot be reached" in outcome.error


@pytest.mark.parametrize("result", Result)
async def test_every_end_has_a_word(port: int, make_notice: MakeNotice, result: Result) -> None:
    with mail_server(port) as box:
        await plain_server(port).send(make_notice(TARGET, address="dev@example.org", result=result))

    assert str(box.mails[0][1]["Subject"]).startswith("[hello] main #3 ")
