"""How jobs of workflow files name secrets."""

import pytest

from buildyard.domain.errors import Invalid
from buildyard.domain.specs import SecretUse
from buildyard.engine.workflow_files import read_workflow


def uses(text: str) -> tuple[SecretUse, ...]:
    """The secrets of a file's only job."""
    return read_workflow(f"jobs: {{a: {{run: make, secrets: {text}}}}}".encode()).spec.jobs[0].secrets


@pytest.mark.covers("secrets.workflow")
def test_a_job_names_its_secrets_and_may_say_how_it_wants_them() -> None:
    assert uses("TOKEN") == (SecretUse(name="TOKEN"),)
    assert uses(
        "[TOKEN, {name: my.key, as: file, path: ~/.ssh//id, mode: 0400, variable: KEY}, {name: B, as: env},"
        " {name: C, optional: true}, {name: D, path: .netrc}]"
    ) == (
        SecretUse(name="TOKEN"),
        SecretUse(name="my.key", given="file", path=".ssh/id", mode=0o400, variable="KEY"),
        SecretUse(name="B", given="env"),
        SecretUse(name="C", optional=True),
        SecretUse(name="D", given="file", path=".netrc"),
    )


@pytest.mark.covers("secrets.workflow")
@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("[1st]", "jobs.a.secrets[0]", "the name of a secret must begin with a letter"),
        ("[A, {name: A}]", "jobs.a.secrets", "names the secret A twice"),
        ("{as: file}", "jobs.a.secrets.name", "is missing"),
        ("[{name: A, as: socket}]", "jobs.a.secrets[0].as", "must be one of env, file"),
        ("[{name: A, as: env, path: x}]", "jobs.a.secrets[0]", "only a file has a path"),
        ("[{name: A, path: /etc/x}]", "jobs.a.secrets[0].path", "must be relative"),
        ("[{name: A, path: ../x}]", "jobs.a.secrets[0].path", "must not hold .."),
        ("[{name: A, mode: 4755}]", "jobs.a.secrets[0].mode", "must be permission bits"),
        ("[{name: A, mode: 600 }, {name: B, mode: 888}]", "jobs.a.secrets[1].mode", "must be permission bits"),
        ("[{name: A, variable: BUILDYARD_X}]", "jobs.a.secrets[0].variable", "cannot be given"),
        ("[{name: A, variable: a-b}]", "jobs.a.secrets[0].variable", "is not a name for a variable"),
        ("[{name: A, value: x}]", "jobs.a.secrets[0].value", "unknown key"),
    ],
)
def test_what_is_wrong_with_it_is_told(text: str, path: str, words: str) -> None:
    with pytest.raises(Invalid) as refused:
        uses(text)

    (fault,) = refused.value.faults
    assert fault.path == path
    assert words in fault.message
