"""The command line where there is no server: quick answers, usage errors, exit codes, and how text is made harmless."""

import subprocess
import sys

import pytest

from buildyard.cli.output import duration, file_size, harmless, style_of, symbol_of
from buildyard.domain.states import Phase, Result
from buildyard.version import VERSION
from installation import Installation


def test_the_version_is_told_without_importing_anything_heavy() -> None:
    program = (
        "import sys; sys.argv = ['buildyard', '--version']; from buildyard.cli import main; code = main()\n"
        "assert not {'typer', 'rich', 'asyncio', 'msgspec'} & set(sys.modules); sys.exit(code)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"buildyard {VERSION}\n", "")


@pytest.mark.covers("cli.exit_codes")
@pytest.mark.parametrize("arguments", [["nonsense"], ["show"], ["run", "--logs", "some"], ["builds", "--limit", "0"]])
def test_wrong_usage_ends_with_2(installation: Installation, arguments: list[str]) -> None:
    assert installation(*arguments).code == 2


@pytest.mark.parametrize("command", [[], ["run"], ["token"], ["token", "create"], ["user", "create"], ["worker"]])
def test_every_command_explains_itself(installation: Installation, command: list[str]) -> None:
    outcome = installation(*command, "--help")

    assert outcome.code == 0
    assert "Usage: buildyard" in outcome.out


@pytest.mark.covers("cli.exit_codes")
def test_a_server_that_cannot_be_reached_ends_with_3(installation: Installation) -> None:
    installation.url = "http://127.0.0.1:9"

    outcome = installation("builds")

    assert outcome.code == 3
    assert "cannot be reached" in outcome.err


@pytest.mark.covers("settings.unknown", "cli.exit_codes")
def test_a_wrong_setting_ends_with_2_and_names_file_line_and_key(installation: Installation) -> None:
    installation.data.mkdir()
    (installation.data / "buildyard.toml").write_text("[server]\nprot = 1\n")

    for command in ("builds", "serve"):
        outcome = installation(command)
        assert outcome.code == 2
        assert "buildyard.toml, line 2: unknown setting 'server.prot'" in outcome.err


def test_serving_openly_beyond_loopback_is_refused(installation: Installation) -> None:
    outcome = installation("serve", BUILDYARD_HOST="0.0.0.0", BUILDYARD_BUILD_SERVER_AUTH="open")

    assert outcome.code == 2
    assert "only on a loopback address" in outcome.err


def test_a_worker_without_a_token_says_what_it_needs(installation: Installation) -> None:
    outcome = installation("worker", "--server", "http://127.0.0.1:9")

    assert outcome.code == 2
    assert "a token with the scope runner" in outcome.err


@pytest.mark.covers("cli.doctor")
def test_the_doctor_works_without_a_server(installation: Installation) -> None:
    installation.url = "http://127.0.0.1:9"

    outcome = installation("doctor")

    assert outcome.code == 0
    assert "executor process: commands run as uid" in outcome.out
    assert "start one with: buildyard serve" in outcome.out


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"plain", "plain"),
        (b"\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        (b"\x1b]0;title\x07text", "text"),
        (b"\x1b[2J\x1b[Htext", "text"),
        (b"10%\r20%\r30%\r\n", "30%"),
        (b"bell\x07 and \x9b1m", "bell and \N{REPLACEMENT CHARACTER}1m"),
        (b"\xff\xfe", "\N{REPLACEMENT CHARACTER}" * 2),
        (b"tab\there", "tab\there"),
    ],
)
def test_lines_of_logs_cannot_command_a_terminal(line: bytes, shown: str) -> None:
    assert harmless(line) == shown


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, ""), (0.04, "0.0 s"), (9.96, "10.0 s"), (12, "12 s"), (185, "3:05"), (3723, "1:02:03")]
)
def test_durations_are_short(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (812, "812 B"), (3 << 20, "3.0 MiB"), (5 << 40, "5120.0 GiB")])
def test_sizes_are_short(size: int, text: str) -> None:
    assert file_size(size) == text


def test_every_state_has_a_sign_and_only_bad_ends_are_red() -> None:
    words = [phase.name.lower() for phase in Phase] + [result.word for result in Result]

    assert all(symbol_of(word) for word in words)
    assert {word for word in words if style_of(word) == "bold red"} - {"finished"} == {
        "failure",
        "log_limit",
        "output_limit",
        "timeout",
        "error",
    }
