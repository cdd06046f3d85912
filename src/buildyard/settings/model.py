"""Every setting as a dataclass field: name, type, default, variable and meaning. The reference is printed from here."""

import ipaddress
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

KIB, MIB, GIB = 1024, 1024**2, 1024**3

ExecutorName = Literal["auto", "process", "sandbox", "container", "dummy"]
PullRule = Literal["missing", "always", "never"]


@dataclass(frozen=True, slots=True)
class Secret:
    """A text that no log and no `repr` shows; `reveal` is the one way to it. The empty text means: not set."""

    _text: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self._text)

    def reveal(self) -> str:
        """The text itself."""
        return self._text


def setting(default: Any, doc: str, variable: str, *, shown: str = "") -> Any:
    """A field with its meaning and variable; `shown` is what the reference says for a default found at run time.

    Tables may hold keys to other systems, so their values are not part of the `repr`.
    """
    metadata = {"doc": doc, "variable": variable, "shown": shown}
    if default is dict:
        return field(default_factory=dict, metadata=metadata, repr=False)
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where the server listens and how it presents itself."""

    host: str = setting("127.0.0.1", "Address to listen on.", "BUILDYARD_HOST")
    port: int = setting(8010, "Port to listen on; 0 takes a free one.", "BUILDYARD_PORT")
    public_url: str = setting(
        "",
        "Address under which others reach the server; used in links and callback addresses. "
        "Empty: `http://HOST:PORT` as listened on.",
        "BUILDYARD_PUBLIC_URL",
    )
    allowed_hosts: tuple[str, ...] = setting(
        (),
        "Further names that a request's `Host` may have, besides loopback, the listening address and the public one.",
        "BUILDYARD_ALLOWED_HOSTS",
    )
    anonymous_read: bool = setting(
        True, "Whether people who are not signed in may read public projects.", "BUILDYARD_ANONYMOUS_READ"
    )
    admin_password: Secret = setting(
        Secret(),
        "Password of the first administrator `admin`. Unset: one is made at the first start and printed once.",
        "BUILDYARD_ADMIN_PASSWORD",
    )
    lease_seconds: float = setting(
        30.0,
        "How long a worker may be unheard of before its jobs count as lost and are tried again elsewhere.",
        "BUILDYARD_LEASE_SECONDS",
    )
    unsupported_seconds: float = setting(
        0.0,
        "After so long in the queue a job that no worker known to the server can run ends as an error (`unsupported`); "
        "0: it waits until there is one.",
        "BUILDYARD_UNSUPPORTED_SECONDS",
    )
    log_format: Literal["text", "json"] = setting(
        "text", "How the server and the worker write their own log.", "BUILDYARD_LOG_FORMAT"
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "info", "The least important entries that are written.", "BUILDYARD_LOG_LEVEL"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """Where everything but logs and files is kept."""

    url: Secret = setting(
        Secret(),
        "`sqlite:///PATH` or `postgresql://USER:PASSWORD@HOST/NAME`. Empty: SQLite in the data folder.",
        "BUILDYARD_DATABASE_URL",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """What jobs are given and nobody is shown."""

    key_file: str = setting(
        "",
        "File with the keys that secrets are encrypted with. Empty: `secrets.keys` in the data folder, made at the "
        "first start. Several servers on one PostgreSQL share one file.",
        "BUILDYARD_SECRETS_KEY_FILE",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sourcehut:
    """The builds.sr.ht API, and jobs made of manifests."""

    enabled: bool = setting(
        True,
        "Whether this API answers. Off: 404 at all of its paths, while the rest goes on.",
        "BUILDYARD_SOURCEHUT",
    )
    show: Literal["all", "own"] = setting(
        "all",
        "What its lists of jobs hold: `all` builds that a user started, in whichever API, or its `own` jobs only.",
        "BUILDYARD_SOURCEHUT_SHOW",
    )
    images: dict[str, str] = setting(
        dict,
        "Container images by the names that manifests use; they win over those of well-known systems. "
        "In the variable: `name=reference,name=reference`.",
        "BUILDYARD_SOURCEHUT_IMAGES",
    )
    timeout_minutes: int = setting(
        240,
        "How long a job made of a manifest may run, with its sources and artifacts.",
        "BUILDYARD_SOURCEHUT_TIMEOUT_MINUTES",
    )
    graphql_playground: bool = setting(
        False, "Whether a browser that opens `/query` gets a page to try queries on.", "BUILDYARD_GRAPHQL_PLAYGROUND"
    )
    shell_minutes: int = setting(
        30,
        "How long the workspace of a job with `shell: true` stays after its end, for `buildyard attach`.",
        "BUILDYARD_SOURCEHUT_SHELL_MINUTES",
    )
    failed_minutes: int = setting(
        0, "How long the workspace of a job that failed stays.", "BUILDYARD_SOURCEHUT_FAILED_MINUTES"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildServer:
    """The Build Server API."""

    enabled: bool = setting(
        True,
        "Whether this API answers. Off: 404 at all of its paths, while the rest goes on.",
        "BUILDYARD_BUILD_SERVER",
    )
    auth: Literal["auto", "open", "token"] = setting(
        "auto",
        "`open`: no token is asked for, allowed only while listening on loopback, without a public address elsewhere. "
        "`token`: every call needs one. `auto`: `open` where that is allowed, else `token`.",
        "BUILDYARD_BUILD_SERVER_AUTH",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where source code may come from."""

    allow_local: bool = setting(
        False,
        "Allow `file://` and private addresses as git sources and webhook targets.",
        "BUILDYARD_ALLOW_LOCAL_SOURCES",
    )
    pass_environment: tuple[str, ...] = setting(
        (
            "http_proxy",
            "https_proxy",
            "no_proxy",
            "all_proxy",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "NO_PROXY",
            "ALL_PROXY",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
            "GIT_SSL_CAINFO",
            "GIT_SSH_COMMAND",
            "SSH_AUTH_SOCK",
        ),
        "Variables of the worker that git may see besides PATH and HOME; `*` stands for any characters.",
        "BUILDYARD_SOURCES_PASS_ENVIRONMENT",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """The worker that `serve` starts, and `buildyard worker`."""

    slots: int = setting(
        lambda: processors(),
        "Jobs that run at the same time; 0: `serve` starts no worker.",
        "BUILDYARD_WORKERS",
        shown="number of CPUs",
    )
    executor: ExecutorName = setting(
        "auto",
        "How jobs run. `auto` takes the strongest of `sandbox` and `process` that works here.",
        "BUILDYARD_EXECUTOR",
    )
    name: str = setting(
        lambda: socket.gethostname(),
        "Name of the worker, unique on the server.",
        "BUILDYARD_WORKER_NAME",
        shown="host name",
    )
    labels: tuple[str, ...] = setting((), "Labels that jobs may ask for.", "BUILDYARD_WORKER_LABELS")
    drain_seconds: float = setting(
        10.0,
        "How long running jobs may go on when `serve` is asked to stop; then they are cancelled.",
        "BUILDYARD_DRAIN_SECONDS",
    )
    separate_user: bool = setting(
        True,
        "Where the server is root and jobs run by `process`: run the embedded worker, and so the jobs, under a user id "
        "of its own, if that user can run Buildyard.",
        "BUILDYARD_WORKER_SEPARATE_USER",
    )
    search_path: str = setting(
        "",
        "`PATH` of jobs. Empty: the usual folders of a system (`/usr/local/bin`, `/usr/bin`, …).",
        "BUILDYARD_WORKER_SEARCH_PATH",
    )
    kept_workspaces: int = setting(
        4,
        "Most workspaces that stay after the ends of jobs which ask for that, for `buildyard attach`; 0: none does.",
        "BUILDYARD_WORKER_KEPT_WORKSPACES",
    )
    kept_bytes: int = setting(
        10 * GIB, "Most bytes of such workspaces together, as they are then.", "BUILDYARD_WORKER_KEPT_BYTES"
    )
    host_network: bool = setting(
        True,
        "Whether jobs may ask for the host's own network (`network: host`), its loopback included; else they fail. "
        "The executor `process` has no other network, whatever a job asks for.",
        "BUILDYARD_WORKER_HOST_NETWORK",
    )
    pass_environment: tuple[str, ...] = setting(
        (
            "PIP_*",
            "UV_INDEX*",
            "UV_DEFAULT_INDEX",
            "UV_FIND_LINKS",
            "NPM_CONFIG_*",
            "npm_config_*",
            "http_proxy",
            "https_proxy",
            "no_proxy",
            "all_proxy",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "NO_PROXY",
            "ALL_PROXY",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
            "REQUESTS_CA_BUNDLE",
            "NODE_EXTRA_CA_CERTS",
        ),
        "Variables of the worker that jobs may see; `*` stands for any characters.",
        "BUILDYARD_WORKER_PASS_ENVIRONMENT",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """The executor `sandbox`."""

    read_only_paths: tuple[str, ...] = setting(
        (), "Further files and folders of the host that jobs may read.", "BUILDYARD_SANDBOX_READ_ONLY_PATHS"
    )
    hidden_paths: tuple[str, ...] = setting(
        (), "Further files and folders of the host that jobs must not see.", "BUILDYARD_SANDBOX_HIDDEN_PATHS"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """The executor `container`."""

    host: str = setting(
        "",
        "The container engine on this machine: `unix:///path` or `tcp://host:port`. Empty: `DOCKER_HOST`, else the "
        "first that is there of `/run/podman/podman.sock`, `$XDG_RUNTIME_DIR/podman/podman.sock` and "
        "`/var/run/docker.sock`.",
        "BUILDYARD_CONTAINER_HOST",
    )
    image: str = setting(
        "", "The image of jobs that name none. Empty: such jobs are refused.", "BUILDYARD_CONTAINER_IMAGE"
    )
    pull: PullRule = setting(
        "missing",
        "When images are pulled. `always` asks the registry before each job, and uses what is here if that fails.",
        "BUILDYARD_CONTAINER_PULL",
    )
    auth_file: str = setting(
        "",
        "File with credentials for registries, in the format of Docker's `config.json` (`auths`).",
        "BUILDYARD_CONTAINER_AUTH_FILE",
    )
    read_only_paths: tuple[str, ...] = setting(
        (),
        "Files and folders of this machine that every job's container shows read-only, at the same places.",
        "BUILDYARD_CONTAINER_READ_ONLY_PATHS",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the server refuses; sizes take `512KiB`, `32MiB`, `4GiB` or bytes."""

    body_bytes: int = setting(32 * MIB, "Longest body of a request.", "BUILDYARD_LIMIT_BODY")
    script_bytes: int = setting(512 * KIB, "Longest script of a step.", "BUILDYARD_LIMIT_SCRIPT")
    upload_bytes: int = setting(2 * GIB, "Largest uploaded folder, packed.", "BUILDYARD_LIMIT_UPLOAD")
    blob_bytes: int = setting(4 * GIB, "Largest artifact or cache.", "BUILDYARD_LIMIT_BLOB")
    queued_jobs: int = setting(1_000_000, "Most unfinished jobs on the server.", "BUILDYARD_LIMIT_QUEUED_JOBS")
    free_disk_bytes: int = setting(
        512 * MIB,
        "New work is refused when the data folder's disk has less than this free.",
        "BUILDYARD_LIMIT_FREE_DISK",
    )
    tidy_disk_bytes: int = setting(
        2 * GIB,
        "With less than this free on the data folder's disk, whatever may go is removed at once: see Disk full in "
        "operations.md.",
        "BUILDYARD_LIMIT_TIDY_DISK",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Blobs:
    """Where artifacts, caches and uploaded folders are kept, by content."""

    url: str = setting(
        "",
        "`s3://BUCKET/PREFIX` for an S3-compatible store. Empty: a folder in the data folder.",
        "BUILDYARD_BLOBS_URL",
    )
    options: dict[str, str] = setting(
        dict,
        "Options of the S3 client: `endpoint`, `region`, `access_key_id`, `secret_access_key`. "
        "In the variable: `name=value,name=value`.",
        "BUILDYARD_BLOBS_OPTIONS",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Caches:
    """The caches that jobs keep between runs; the least recently used go first."""

    project_bytes: int = setting(4 * GIB, "Most bytes of one project's caches.", "BUILDYARD_CACHE_PROJECT")
    total_bytes: int = setting(20 * GIB, "Most bytes of all caches.", "BUILDYARD_CACHE_TOTAL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long things are kept; 0 keeps them forever. Projects and pipelines may say otherwise."""

    build_days: int = setting(
        0, "Finished builds, with all that is theirs: for so many days.", "BUILDYARD_KEEP_BUILD_DAYS"
    )
    build_count: int = setting(0, "The newest builds of each pipeline.", "BUILDYARD_KEEP_BUILD_COUNT")
    build_bytes: int = setting(
        0, "The newest builds of each pipeline whose logs and artifacts fit.", "BUILDYARD_KEEP_BUILD_BYTES"
    )
    log_days: int = setting(0, "Logs: for so many days after the build.", "BUILDYARD_KEEP_LOG_DAYS")
    log_count: int = setting(0, "Logs of the newest builds of each pipeline.", "BUILDYARD_KEEP_LOG_COUNT")
    log_bytes: int = setting(0, "Most bytes of each pipeline's logs; the oldest go.", "BUILDYARD_KEEP_LOG_BYTES")
    artifact_days: int = setting(0, "Artifacts: for so many days after the build.", "BUILDYARD_KEEP_ARTIFACT_DAYS")
    artifact_count: int = setting(
        0, "Artifacts of the newest builds of each pipeline.", "BUILDYARD_KEEP_ARTIFACT_COUNT"
    )
    artifact_bytes: int = setting(
        0, "Most bytes of each pipeline's artifacts; the oldest go.", "BUILDYARD_KEEP_ARTIFACT_BYTES"
    )
    cache_days: int = setting(0, "Caches: for so many days after their last use.", "BUILDYARD_KEEP_CACHE_DAYS")
    cache_count: int = setting(0, "Most caches of each project; see also `caches`.", "BUILDYARD_KEEP_CACHE_COUNT")
    grace_minutes: int = setting(
        10, "A build loses nothing before so long after its end, whatever the rules.", "BUILDYARD_KEEP_GRACE_MINUTES"
    )
    blob_grace_minutes: int = setting(
        60,
        "How long bytes stay to which nothing refers: a job must end within it after an upload, and a copy of the "
        "files that follows one of the database.",
        "BUILDYARD_KEEP_BLOB_GRACE_MINUTES",
    )
    event_hours: int = setting(72, "Events: what the machine did.", "BUILDYARD_KEEP_EVENT_HOURS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """The server that mail is handed to."""

    host: str = setting("", "Its name or address. Empty: no mail is sent.", "BUILDYARD_MAIL_HOST")
    port: int = setting(0, "Its port; 0: 25, with `starttls` 587, with `tls` 465.", "BUILDYARD_MAIL_PORT")
    security: Literal["none", "starttls", "tls"] = setting(
        "starttls",
        "`tls`: encrypted from the first byte. `starttls`: before anything of worth is said. `none`: not at all, "
        "without a user but on loopback.",
        "BUILDYARD_MAIL_SECURITY",
    )
    user: str = setting("", "Who signs in there. Empty: nobody.", "BUILDYARD_MAIL_USER")
    password: Secret = setting(Secret(), "The user's password.", "BUILDYARD_MAIL_PASSWORD")
    sender: str = setting("", "The address that mail comes from.", "BUILDYARD_MAIL_FROM")
    ca_file: str = setting(
        "", "File of the authorities that its certificate is checked by. Empty: the system's.", "BUILDYARD_MAIL_CA_FILE"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """Webhooks, mail and commit statuses."""

    tries: int = setting(
        12, "How often a message is tried, over about three hours, before it is given up.", "BUILDYARD_TELLING_TRIES"
    )
    timeout_seconds: float = setting(20.0, "How long one try may take.", "BUILDYARD_TELLING_TIMEOUT_SECONDS")
    credentials: dict[str, str] = setting(
        dict,
        "Files with tokens of forges and secrets of webhooks, by name: a rule says `server:NAME`, and only "
        "administrators may. In the variable: `name=path,name=path`.",
        "BUILDYARD_TELLING_CREDENTIALS",
    )
    key_file: str = setting(
        "",
        "File with the Ed25519 key that the webhooks of APIs are signed with: 32 bytes in base64. Empty: "
        "`webhooks.key` in the data folder, made at the first start. Several servers on one PostgreSQL share one file.",
        "BUILDYARD_TELLING_KEY_FILE",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Yard:
    """What the operator declares in a file: projects, pipelines, triggers, workers."""

    file: str = setting(
        "",
        "The yard file; read at the start and on SIGHUP. Empty: there is none. See docs/yard-file.md.",
        "BUILDYARD_YARD",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """The command line's side."""

    url: str = setting(
        "", "The server that the command line talks to. Empty: `http://HOST:PORT` of this machine.", "BUILDYARD_URL"
    )
    token: Secret = setting(Secret(), "The token it shows there.", "BUILDYARD_TOKEN")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings. `job_environment` and `source_environment` are the variables that passed the allowlists.

    `unknown_variables` are `BUILDYARD_*` variables that name no setting: worth a warning, but no error, for jobs
    and tests of Buildyard itself run with such variables around them.
    """

    data: Path = setting(
        lambda: Path("data").absolute(), "Folder of everything that the server keeps.", "BUILDYARD_DATA", shown="./data"
    )
    server: Server = field(default_factory=Server)
    database: Database = field(default_factory=Database)
    secrets: Secrets = field(default_factory=Secrets)
    build_server: BuildServer = field(default_factory=BuildServer)
    sourcehut: Sourcehut = field(default_factory=Sourcehut)
    sources: Sources = field(default_factory=Sources)
    worker: Worker = field(default_factory=Worker)
    sandbox: Sandbox = field(default_factory=Sandbox)
    container: Container = field(default_factory=Container)
    limits: Limits = field(default_factory=Limits)
    blobs: Blobs = field(default_factory=Blobs)
    caches: Caches = field(default_factory=Caches)
    retention: Retention = field(default_factory=Retention)
    mail: Mail = field(default_factory=Mail)
    telling: Telling = field(default_factory=Telling)
    yard: Yard = field(default_factory=Yard)
    client: Client = field(default_factory=Client)
    job_environment: dict[str, str] = field(default_factory=dict, repr=False)
    source_environment: dict[str, str] = field(default_factory=dict, repr=False)
    unknown_variables: tuple[str, ...] = ()
    container_places: tuple[str, ...] = ()

    @property
    def database_url(self) -> str:
        """The database's address, with the default filled in."""
        return self.database.url.reveal() or f"sqlite:///{self.data / 'buildyard.sqlite'}"

    @property
    def public_url(self) -> str:
        """The address for links and callbacks, without a slash at its end."""
        return (self.server.public_url or url_of(self.server.host, self.server.port)).rstrip("/")

    @property
    def build_server_open(self) -> bool:
        """Whether the Build Server API asks for no token."""
        return self.build_server.auth == "open" or (self.build_server.auth == "auto" and not self.reached_as)

    @property
    def reached_as(self) -> str:
        """The name by which other machines reach the server, as far as the settings say; empty if none can.

        A public address that is not loopback means a proxy in front, whatever the server itself listens on.
        """
        named = urlsplit(self.server.public_url).hostname or "localhost"
        return next((host for host in (self.server.host or "every address", named) if not is_loopback(host)), "")

    @property
    def client_url(self) -> str:
        """The server that the command line talks to, without a slash at its end."""
        return (self.client.url or url_of(self.server.host, self.server.port)).rstrip("/")

    @property
    def socket(self) -> Path:
        """The unix socket by which the embedded worker reaches the server."""
        return self.data / "run" / "server.sock"

    @property
    def container_address(self) -> str:
        """The container engine: the one that is set, else the first of the usual places that has a socket."""
        places = (self.container.host, *self.container_places)
        found = next((each for each in places if each and not _is_absent_socket(each)), "")
        return self.container.host or found or next((each for each in places if each), "")

    @property
    def key_file(self) -> Path:
        """The file with the keys of secrets."""
        return Path(self.secrets.key_file or self.data / "secrets.keys")

    @property
    def signing_key_file(self) -> Path:
        """The file with the key that webhooks of APIs are signed with."""
        return Path(self.telling.key_file or self.data / "webhooks.key")

    @property
    def operator_token(self) -> Path:
        """The file with the token by which the command line on this machine acts as the operator."""
        return self.data / "operator.token"


def _is_absent_socket(address: str) -> bool:
    return address.startswith("unix://") and not Path(address.removeprefix("unix://")).exists()


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def url_of(host: str, port: int) -> str:
    """The address of a listener, as this machine reaches it: a wildcard address becomes loopback."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 - replaced, not bound
    return f"http://{f'[{reachable}]' if ':' in reachable else reachable}:{port}"
