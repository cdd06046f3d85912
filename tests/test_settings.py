"""Settings come from one file and the environment, and every mistake in them is named exactly."""

from pathlib import Path

import pytest

from buildyard.settings import BadSettings, Settings, as_variables, read_settings
from buildyard.settings.reading import setting_keys
from buildyard.settings.reference import settings_reference


def write(folder: Path, text: str) -> dict[str, str]:
    """A settings file in `folder` as data folder; the environment that leads to it."""
    (folder / "buildyard.toml").write_text(text)
    return {"BUILDYARD_DATA": str(folder)}


def test_defaults_serve_on_loopback_with_everything_in_the_data_folder(tmp_path: Path) -> None:
    settings = read_settings({"BUILDYARD_DATA": str(tmp_path)})

    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8010)
    assert settings.database_url == f"sqlite:///{tmp_path}/buildyard.sqlite"
    assert settings.public_url == settings.client_url == "http://127.0.0.1:8010"
    assert settings.build_server_open
    assert settings.limits.body_bytes == 32 * 1024**2
    assert settings.limits.script_bytes == 512 * 1024


def test_the_file_is_found_in_the_data_folder_and_variables_win_over_it(tmp_path: Path) -> None:
    environment = write(tmp_path, '[server]\nport = 9000\nlog_format = "json"\n[worker]\nlabels = ["gpu", "big"]\n')

    settings = read_settings({**environment, "BUILDYARD_PORT": "9001"})

    assert (settings.server.port, settings.server.log_format) == (9001, "json")
    assert settings.worker.labels == ("gpu", "big")


def test_a_named_file_is_read_wherever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.toml"
    path.write_text('data = "/srv/by"\n[limits]\nupload_bytes = "5GiB"\n')

    settings = read_settings({"BUILDYARD_CONFIG": str(path)})

    assert settings.data == Path("/srv/by")
    assert settings.limits.upload_bytes == 5 * 1024**3


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"nowhere\.toml"):
        read_settings({"BUILDYARD_CONFIG": str(tmp_path / "nowhere.toml")})


@pytest.mark.covers("settings.unknown")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# one\n[server]\n\nprot = 1\n", r"buildyard.toml, line 4: unknown setting 'server.prot'; did you mean"),
        ("[serverr]\nport = 1\n", r"line 2: unknown setting 'serverr.port'; did you mean 'server.port'"),
        ("nonsense = 1\n", "line 1: unknown setting 'nonsense'"),
        ("[nothing]\n", "line 1: unknown setting 'nothing'"),
        ("server = {port = 1, hots = 2}\n", "line 1: unknown setting 'server.hots'"),
        ('[server]\nport = "many"\n', "line 2: server.port must be a whole number or a size"),
        ("[server]\nport = true\n", "line 2: server.port must be a whole number"),
        ("[server]\nhost = 7\n", "line 2: server.host must be text"),
        ('[server]\nlog_format = "xml"\n', "line 2: server.log_format must be one of text, json"),
        ('[worker]\nlabels = ["a", 1]\n', "line 2: worker.labels must be a list of texts"),
        ("[server\n", "line 1"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_file_line_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadSettings, match=message):
        read_settings(write(tmp_path, text))


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("BUILDYARD_PORT", "http", "variable BUILDYARD_PORT must be a whole number"),
        ("BUILDYARD_PORT", "70000", "between 0 and 65535"),
        ("BUILDYARD_ALLOW_LOCAL_SOURCES", "maybe", "must be 1, 0, true, false, on or off"),
        ("BUILDYARD_EXECUTOR", "docker", "must be one of auto, process, sandbox, container, dummy"),
        ("BUILDYARD_WORKERS", "-1", "must not be negative"),
        ("BUILDYARD_DRAIN_SECONDS", "long", "must be a number"),
        ("BUILDYARD_URL", "localhost:8010", "BUILDYARD_URL"),
        ("BUILDYARD_DATABASE_URL", "mysql://x", "must begin with sqlite:/// or postgresql://"),
        ("BUILDYARD_BLOBS_URL", "gs://x", "must begin with s3://"),
        ("BUILDYARD_MAIL_HOST", "mail.example.org", r"mail\.sender \(BUILDYARD_MAIL_FROM\) must be a mail address"),
        ("BUILDYARD_TELLING_TRIES", "0", r"telling\.tries \(BUILDYARD_TELLING_TRIES\) must lie between 1 and 100"),
        ("BUILDYARD_TELLING_TIMEOUT_SECONDS", "0", r"must lie between 0\.1 and 600"),
        ("BUILDYARD_SOURCEHUT_TIMEOUT_MINUTES", "0", r"sourcehut\.timeout_minutes .* must lie between 1 and 10080"),
        ("BUILDYARD_SOURCEHUT_SHELL_MINUTES", "-1", r"sourcehut\.shell_minutes .* must lie between 0 and 10080"),
    ],
)
def test_a_mistake_in_a_variable_is_named_with_the_variable(variable: str, value: str, message: str) -> None:
    with pytest.raises(BadSettings, match=message):
        read_settings({variable: value})


def test_a_password_for_mail_is_not_sent_in_the_clear_and_not_shown() -> None:
    given = {
        "BUILDYARD_MAIL_HOST": "mail.example.org",
        "BUILDYARD_MAIL_FROM": "yard@example.org",
        "BUILDYARD_MAIL_USER": "yard",
        "BUILDYARD_MAIL_PASSWORD": "s3cret",
    }

    assert "s3cret" not in repr(read_settings(given))
    with pytest.raises(BadSettings, match="starttls or tls"):
        read_settings({**given, "BUILDYARD_MAIL_SECURITY": "none"})
    assert read_settings({**given, "BUILDYARD_MAIL_SECURITY": "none", "BUILDYARD_MAIL_HOST": "localhost"}).mail.user


@pytest.mark.parametrize("text", ["1", "true", "on", "TRUE"])
def test_truth_may_be_written_in_several_ways(text: str) -> None:
    assert read_settings({"BUILDYARD_ALLOW_LOCAL_SOURCES": text}).sources.allow_local


@pytest.mark.covers("settings.unknown")
def test_an_unknown_variable_is_reported_but_does_not_stop_anything() -> None:
    settings = read_settings({"BUILDYARD_PROT": "1", "BUILDYARD_REQUIRE": "all"})

    assert settings.unknown_variables == ("BUILDYARD_PROT",)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.9.9.9"])
def test_the_build_server_api_is_open_on_loopback(host: str) -> None:
    assert read_settings({"BUILDYARD_HOST": host}).build_server_open


def test_the_build_server_api_asks_for_tokens_elsewhere() -> None:
    assert not read_settings({"BUILDYARD_HOST": "192.0.2.1"}).build_server_open


@pytest.mark.parametrize("url", ["https://ci.example.org", "http://192.0.2.1:8010", "https://[2001:db8::1]/"])
def test_behind_a_declared_proxy_the_build_server_api_asks_for_tokens(url: str) -> None:
    assert not read_settings({"BUILDYARD_PUBLIC_URL": url}).build_server_open

    with pytest.raises(BadSettings, match=r"server\.public_url \(BUILDYARD_PUBLIC_URL\) names"):
        read_settings({"BUILDYARD_PUBLIC_URL": url, "BUILDYARD_BUILD_SERVER_AUTH": "open"})


def test_a_public_url_of_this_machine_leaves_the_build_server_api_open() -> None:
    assert read_settings({"BUILDYARD_PUBLIC_URL": "http://localhost:8010"}).build_server_open


def test_listening_on_every_address_asks_for_tokens() -> None:
    assert not read_settings({"BUILDYARD_HOST": ""}).build_server_open


def test_an_open_build_server_api_beyond_loopback_is_refused() -> None:
    with pytest.raises(BadSettings, match="only on a loopback address"):
        read_settings({"BUILDYARD_HOST": "0.0.0.0", "BUILDYARD_BUILD_SERVER_AUTH": "open"})


def test_passwords_and_keys_do_not_show_in_the_repr() -> None:
    settings = read_settings(
        {
            "BUILDYARD_ADMIN_PASSWORD": "hunter2",
            "BUILDYARD_TOKEN": "hunter2",
            "BUILDYARD_DATABASE_URL": "postgresql://u:hunter2@h/n",
            "BUILDYARD_BLOBS_OPTIONS": "secret_access_key=hunter2,region=eu",
        }
    )

    assert "hunter2" not in repr(settings)
    assert settings.server.admin_password.reveal() == "hunter2"
    assert settings.blobs.options == {"secret_access_key": "hunter2", "region": "eu"}


@pytest.mark.covers("worker.environment")
def test_only_allowed_variables_pass_into_jobs() -> None:
    settings = read_settings({"PIP_INDEX_URL": "x", "HTTPS_PROXY": "y", "AWS_SECRET_ACCESS_KEY": "z", "HOME": "/h"})

    assert settings.job_environment == {"PIP_INDEX_URL": "x", "HTTPS_PROXY": "y"}
    assert settings.source_environment == {"HTTPS_PROXY": "y", "HOME": "/h"}


def test_the_public_address_may_differ_from_the_one_listened_on() -> None:
    settings = read_settings({"BUILDYARD_HOST": "::", "BUILDYARD_PUBLIC_URL": "https://ci.example.org/by/"})

    assert settings.public_url == "https://ci.example.org/by"
    assert settings.client_url == "http://[::1]:8010"


@pytest.mark.covers("settings.reference")
def test_every_setting_is_in_the_reference_with_a_variable_of_its_own() -> None:
    page = settings_reference()
    variables = [setting.metadata["variable"] for setting, _ in setting_keys().values()]

    assert len(set(variables)) == len(variables)
    assert all(f"`{variable}`" in page for variable in variables)


def test_settings_can_be_handed_to_another_process_as_variables(tmp_path: Path) -> None:
    settings = read_settings(
        {
            "BUILDYARD_DATA": str(tmp_path),
            "BUILDYARD_WORKER_LABELS": "a,b",
            "BUILDYARD_ALLOW_LOCAL_SOURCES": "on",
            "BUILDYARD_ADMIN_PASSWORD": "hunter2",
            "BUILDYARD_DRAIN_SECONDS": "2.5",
        }
    )

    variables = as_variables(settings, "worker", "sources")
    again = read_settings(variables)

    assert (again.data, again.worker, again.sources) == (settings.data, settings.worker, settings.sources)
    assert "hunter2" not in variables.values()


def test_settings_can_be_made_without_reading_anything() -> None:
    assert Settings(data=Path("/srv")).socket == Path("/srv/run/server.sock")
