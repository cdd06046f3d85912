"""`buildyard secret …` as people use it."""

import json
from pathlib import Path

import pytest

from cli.conftest import Write
from installation import Installation

WORKFLOW = """
name: deploys
jobs:
  a:
    run: |
      echo "token $TOKEN"; base64 < "$KEY"; stat -c '%a' "$KEY"
    secrets: [TOKEN, KEY]
    outputs: []
"""


@pytest.mark.covers("secrets.cli", "secrets.e2e")
def test_a_secret_is_set_used_listed_rotated_and_deleted(buildyard: Installation, write: Write, tmp_path: Path) -> None:
    file = write("deploys.yml", WORKFLOW)
    refused = buildyard("run", str(file))
    assert refused.code == 5
    assert "there is no secret KEY, TOKEN for deploys:deploys; set it with" in refused.err
    key = write("key", "-----BEGIN-----\nAbCdEfGhIj\n-----END-----\n")

    made = buildyard("secret", "set", "TOKEN", "--project", "deploys", stdin="s3cret-of-bob\n")
    assert (made.code, made.out) == (0, "secret TOKEN of project deploys is set\n")
    made = buildyard("secret", "set", "KEY", "--account", "admin", "--kind", "ssh_key", "--file", str(key), "--json")
    assert json.loads(made.out)["scope"] == "account"
    ran = buildyard("run", str(file), "--logs", "all")
    rotated = buildyard("secret", "rotate-key")
    again = buildyard("run", str(file), "--logs", "all")

    assert (ran.code, rotated.code, again.code) == (0, 0, 0), ran.err + rotated.err
    assert "2 secrets were encrypted anew" in rotated.out
    for told in (ran, again):
        assert "token ***" in told.out
        assert "600" in told.out
        assert "s3cret" not in told.out + told.err
    listed = buildyard("secret", "list")
    assert "TOKEN" in listed.out
    assert "project deploys" in listed.out
    assert "never" not in listed.out
    assert [one["name"] for one in json.loads(buildyard("secret", "list", "--account", "admin", "--json").out)] == [
        "KEY"
    ]
    assert buildyard("secret", "delete", "TOKEN", "--project", "deploys").out == "secret TOKEN is deleted\n"
    assert buildyard("secret", "delete", "TOKEN", "--project", "deploys").code == 5
    held = b"".join(path.read_bytes() for path in buildyard.data.rglob("*") if path.is_file())
    for value in (b"s3cret-of-bob", b"AbCdEfGhIj"):
        assert value not in held


def test_a_value_is_never_an_argument_and_what_is_wrong_with_one_is_told(buildyard: Installation) -> None:
    assert buildyard("secret", "set", "TOKEN", "the-value", "--account", "admin").code == 2
    short = buildyard("secret", "set", "TOKEN", "--account", "admin", stdin="abc")
    assert (short.code, "at least 4 characters" in short.err) == (5, True)
    assert buildyard("secret", "set", "TOKEN", "--account", "admin", "--file", "/none").code == 5
    assert buildyard("secret", "set", "TOKEN", "--account", "admin", "--mode", "rw", stdin="value").code == 5
    assert "name either" in buildyard("secret", "set", "TOKEN", stdin="value").err
