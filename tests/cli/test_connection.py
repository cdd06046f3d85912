"""Which credentials the command line shows to which server."""

from pathlib import Path

import pytest

from buildyard.cli.connection import authorization
from buildyard.settings import read_settings


def shown_to(url: str, data: Path, **more: str) -> str:
    """The `Authorization` header that a server at this address is sent."""
    data.mkdir(exist_ok=True)
    (data / "operator.token").write_text("by_operator\n")
    return authorization(read_settings({"BUILDYARD_DATA": str(data), "BUILDYARD_URL": url, **more}))


@pytest.mark.parametrize(
    "url", ["https://ci.example.org", "http://192.0.2.1:8010", "unix:///tmp/other.sock", "http://127.0.0.1.example.org"]
)
def test_another_machines_server_is_shown_neither_the_operators_token_nor_the_administrators_password(
    url: str, tmp_path: Path
) -> None:
    assert shown_to(url, tmp_path / "data") == ""
    assert shown_to(url, tmp_path / "data", BUILDYARD_ADMIN_PASSWORD="secret password") == ""


@pytest.mark.parametrize("url", ["", "http://127.0.0.1:8010", "http://localhost:1", "http://[::1]:8010"])
def test_a_server_of_this_machine_is_shown_the_password_else_the_operators_token(url: str, tmp_path: Path) -> None:
    assert shown_to(url, tmp_path / "data") == "Bearer by_operator"
    assert shown_to(url, tmp_path / "data", BUILDYARD_ADMIN_PASSWORD="secret password").startswith("Basic ")


def test_so_is_the_socket_in_the_data_folder_and_the_address_that_our_server_listens_on(tmp_path: Path) -> None:
    data = tmp_path / "data"

    assert shown_to(f"unix://{data}/run/server.sock", data) == "Bearer by_operator"
    assert shown_to("http://192.0.2.1:8010", data, BUILDYARD_HOST="192.0.2.1") == "Bearer by_operator"


def test_a_token_is_shown_to_whatever_server_is_named(tmp_path: Path) -> None:
    assert shown_to("https://ci.example.org", tmp_path / "data", BUILDYARD_TOKEN="by_mine") == "Bearer by_mine"
