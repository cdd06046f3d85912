"""The tables. Columns hold integers, text and bytes only; times are microseconds since 1970 UTC.

`docs/data-model.md` explains them and maps every field of the five APIs to a column here.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import TEXT

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

BYTEWISE = Text().with_variant(TEXT(collation="C"), "postgresql")
"""Text that sorts by its bytes, as SQLite's does: the same answers on both databases, whatever the locale."""

QUEUED = text("phase = 1")
UNFINISHED = text("phase < 4")
REMOVED = text("removed_at IS NOT NULL")
WAITING = text("state = 0")
STREAMED = text("stream > ''")
STANDING = text("defined_by <> 'manifest'")
SUBSCRIBED = text("subscription > 0")
IN_GROUP = text("concurrency IS NOT NULL")
AS_PROJECT = text("audience = 0")
RESERVED = text("audience = 1 OR audience = 2")
PUBLISHED = text("audience = 3")
OF_MANIFEST = text("manifest = 1")
LISTED = text('("right" & 1) = 1')


def _id() -> Column[int]:
    return Column("id", Integer, primary_key=True, autoincrement=True)


def _integer(name: str, default: int | None = None) -> Column[int]:
    """A whole number that is always there; `default` is what rows of earlier versions get."""
    return Column(name, Integer, nullable=False, server_default=None if default is None else str(default))


def _moment(name: str, *, optional: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=optional)


def _big(name: str, default: int = 0) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=str(default))


def _text(name: str, default: str | None = "") -> Column[str]:
    return Column(name, BYTEWISE, nullable=False, server_default=default)


def _uid() -> Column[str]:
    return Column("uid", BYTEWISE, nullable=False, unique=True)


def _to(name: str, target: str, *, optional: bool = False, gone: str = "CASCADE", later: bool = False) -> Column[int]:
    """A reference; `gone` says what deleting the target does to this row; `later`: each table refers to the other."""
    reference = ForeignKey(f"{target}.id", ondelete=gone, use_alter=later)
    return Column(name, Integer, reference, nullable=optional)


def _state() -> tuple[Column[int], Column[int], Column[str], Column[str]]:
    """Phase, result, cause and detail (a sentence for people), as `domain.states` has them."""
    return (
        _integer("phase"),
        Column("result", Integer, nullable=True),
        _text("cause"),
        _text("detail"),
    )


# --- identity -----------------------------------------------------------------------------------

users = Table(
    "users",
    metadata,
    _id(),
    _uid(),
    Column("username", BYTEWISE, nullable=False, unique=True),
    Column("email", BYTEWISE, nullable=True, unique=True),
    _text("full_name"),
    Column("password_hash", BYTEWISE, nullable=True),
    _integer("administrator", 0),
    _moment("created_at"),
    _moment("updated_at"),
    _moment("disabled_at", optional=True),
    sqlite_autoincrement=True,
)

accounts = Table(
    "accounts",
    metadata,
    _id(),
    _uid(),
    Column("name", BYTEWISE, nullable=False, unique=True),
    _to("user", "users", optional=True),
    _integer("shares", 1),
    _moment("created_at"),
    Index("ix_accounts_user", "user"),
    sqlite_autoincrement=True,
)

projects = Table(
    "projects",
    metadata,
    _id(),
    _uid(),
    Column("slug", BYTEWISE, nullable=False, unique=True),
    _text("name", None),
    _to("account", "accounts"),
    _text("description"),
    _integer("visibility", 0),
    _integer("shares", 1),
    _integer("public_logs", 1),
    _text("defined_by"),
    _moment("created_at"),
    _moment("updated_at"),
    Index("ix_projects_account_id", "account", "id"),
    sqlite_autoincrement=True,
)

renames = Table(
    "renames",
    metadata,
    Column("kind", BYTEWISE, nullable=False),
    Column("parent", Integer, nullable=False),
    Column("old_slug", BYTEWISE, nullable=False),
    Column("target", Integer, nullable=False),
    PrimaryKeyConstraint("kind", "parent", "old_slug"),
)

memberships = Table(
    "memberships",
    metadata,
    _id(),
    _to("user", "users"),
    _to("account", "accounts", optional=True),
    _to("project", "projects", optional=True),
    _integer("role"),
    _moment("created_at"),
    Index("ix_memberships_user", "user"),
    Index("ix_memberships_account", "account"),
    Index("ix_memberships_project", "project"),
    Index(
        "uq_memberships_user_account",
        "user",
        "account",
        unique=True,
        sqlite_where=text("project IS NULL"),
        postgresql_where=text("project IS NULL"),
    ),
    Index(
        "uq_memberships_user_project",
        "user",
        "project",
        unique=True,
        sqlite_where=text("account IS NULL"),
        postgresql_where=text("account IS NULL"),
    ),
    sqlite_autoincrement=True,
)

tokens = Table(
    "tokens",
    metadata,
    _id(),
    Column("hash", LargeBinary, nullable=False, unique=True),
    _to("user", "users"),
    _text("name"),
    _text("scopes"),
    _to("project", "projects", optional=True),
    _text("labels"),
    _text("defined_by"),
    _to("attempt", "attempts", optional=True),
    _moment("created_at"),
    _moment("expires_at", optional=True),
    _moment("revoked_at", optional=True),
    Index("ix_tokens_user", "user"),
    Index("ix_tokens_attempt", "attempt"),
    sqlite_autoincrement=True,
)

# --- definition ---------------------------------------------------------------------------------

pipelines = Table(
    "pipelines",
    metadata,
    _id(),
    _uid(),
    _to("project", "projects"),
    _text("slug", None),
    _text("name", None),
    _text("defined_by", None),
    _integer("shares", 1),
    _integer("next_number", 1),
    _integer("next_attempt_number", 1),
    _to("latest_version", "pipeline_versions", optional=True, gone="SET NULL", later=True),
    _text("source"),
    _integer("manifests", 0),
    _moment("disabled_at", optional=True),
    _moment("created_at"),
    _moment("updated_at"),
    UniqueConstraint("project", "slug"),
    Index("ix_pipelines_project_id", "project", "id"),
    sqlite_autoincrement=True,
)

pipeline_versions = Table(
    "pipeline_versions",
    metadata,
    _id(),
    _to("pipeline", "pipelines"),
    Column("hash", LargeBinary, nullable=False),
    _integer("jobs"),
    _text("text"),
    _text("concurrency"),
    _text("secrets"),
    _moment("created_at"),
    UniqueConstraint("pipeline", "hash"),
    sqlite_autoincrement=True,
)

secrets = Table(
    "secrets",
    metadata,
    _id(),
    _uid(),
    _to("account", "accounts", optional=True),
    _to("project", "projects", optional=True),
    _to("pipeline", "pipelines", optional=True),
    Column("name", BYTEWISE, nullable=True),
    _text("kind", None),
    _text("path"),
    _integer("mode"),
    _text("key", None),
    Column("data", LargeBinary, nullable=False),
    _to("from_user", "users", optional=True, gone="SET NULL"),
    _moment("created_at"),
    _moment("updated_at"),
    _moment("used_at", optional=True),
    UniqueConstraint("account", "name"),
    UniqueConstraint("project", "name"),
    UniqueConstraint("pipeline", "name"),
    Index("ix_secrets_from_user", "from_user"),
    Index("ix_secrets_key_id", "key", "id"),
    Index("ix_secrets_account_id", "account", "id"),
    sqlite_autoincrement=True,
)

requirements = Table(
    "requirements",
    metadata,
    _id(),
    Column("key", BYTEWISE, nullable=False, unique=True),
    _moment("created_at"),
    sqlite_autoincrement=True,
)

job_specs = Table(
    "job_specs",
    metadata,
    _id(),
    _to("version", "pipeline_versions"),
    _integer("position"),
    _text("name", None),
    _to("requirement", "requirements"),
    _integer("priority", 0),
    _integer("dependants", 0),
    _integer("allow_failure", 0),
    _integer("gates", 0),
    _text("needs"),
    _text("spec", None),
    UniqueConstraint("version", "position"),
    sqlite_autoincrement=True,
)

images = Table(
    "images",
    metadata,
    _id(),
    _uid(),
    Column("slug", BYTEWISE, nullable=False, unique=True),
    _to("account", "accounts", optional=True),
    _text("url", None),
    _integer("public", 0),
    _moment("created_at"),
    sqlite_autoincrement=True,
)

triggers = Table(
    "triggers",
    metadata,
    _id(),
    _to("project", "projects"),
    _text("kind", None),
    Column("name", BYTEWISE, nullable=False, unique=True),
    _integer("enabled", 1),
    _text("spec", None),
    _text("defined_by", None),
    _moment("created_at"),
    _moment("updated_at"),
    Index("ix_triggers_project_id", "project", "id"),
    Index("ix_triggers_kind_id", "kind", "id"),
    sqlite_autoincrement=True,
)

trigger_pipelines = Table(
    "trigger_pipelines",
    metadata,
    _to("trigger", "triggers"),
    _to("pipeline", "pipelines"),
    PrimaryKeyConstraint("trigger", "pipeline"),
    Index("ix_trigger_pipelines_pipeline", "pipeline", "trigger"),
)

trigger_upstreams = Table(
    "trigger_upstreams",
    metadata,
    _to("pipeline", "pipelines"),
    _to("trigger", "triggers"),
    PrimaryKeyConstraint("pipeline", "trigger"),
    Index("ix_trigger_upstreams_trigger", "trigger"),
)

trigger_states = Table(
    "trigger_states",
    metadata,
    Column("trigger", Integer, ForeignKey("triggers.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    _text("kind", None),
    _moment("checked_at", optional=True),
    _moment("next_at", optional=True),
    _moment("requested_at", optional=True),
    _text("revision"),
    _text("error"),
    _moment("error_at", optional=True),
    _moment("leased_until", optional=True),
    Index("ix_trigger_states_kind_next_at", "kind", "next_at"),
)

ended_upstreams = Table(
    "ended_upstreams",
    metadata,
    _to("build", "builds"),
    _to("trigger", "triggers"),
    _moment("created_at"),
    _moment("next_at"),
    PrimaryKeyConstraint("build", "trigger"),
    Index("ix_ended_upstreams_trigger", "trigger"),
    Index("ix_ended_upstreams_next_at", "next_at"),
)

manifest_readings = Table(
    "manifest_readings",
    metadata,
    _id(),
    _to("pipeline", "pipelines"),
    _to("trigger", "triggers"),
    _text("firing", None),
    _text("changes", None),
    _integer("tries"),
    _moment("created_at"),
    _moment("next_at"),
    Index("ix_manifest_readings_next_at", "next_at"),
    Index("ix_manifest_readings_pipeline_id", "pipeline", "id"),
    Index("ix_manifest_readings_trigger", "trigger"),
    sqlite_autoincrement=True,
)

# --- source -------------------------------------------------------------------------------------

revisions = Table(
    "revisions",
    metadata,
    _id(),
    _to("project", "projects"),
    _text("repository"),
    _text("branch"),
    _text("commit"),
    _text("codebase"),
    _text("message"),
    _text("author"),
    Column("patch", BYTEWISE, nullable=True),
    Column("source_blob", BYTEWISE, nullable=True),
    _big("source_size"),
    _integer("shallow", 1),
    _integer("submodules", 1),
    _moment("created_at"),
    Index("ix_revisions_repository_commit", "repository", "commit"),
    Index("ix_revisions_project_id", "project", "id"),
    sqlite_autoincrement=True,
)

changes = Table(
    "changes",
    metadata,
    _id(),
    _to("project", "projects"),
    _to("revision", "revisions"),
    _text("committer"),
    _text("files", "[]"),
    _text("category"),
    _text("link"),
    _to("parent", "changes", optional=True, gone="SET NULL"),
    _moment("committed_at", optional=True),
    _moment("created_at"),
    Index("ix_changes_project_id", "project", "id"),
    Index("ix_changes_revision", "revision"),
    Index("ix_changes_parent", "parent"),
    sqlite_autoincrement=True,
)

hook_deliveries = Table(
    "hook_deliveries",
    metadata,
    Column("hook", BYTEWISE, nullable=False),
    Column("key", BYTEWISE, nullable=False),
    _text("event"),
    _text("answer"),
    _moment("received_at"),
    PrimaryKeyConstraint("hook", "key"),
    Index("ix_hook_deliveries_received_at", "received_at"),
)

# --- runs ---------------------------------------------------------------------------------------

evaluations = Table(
    "evaluations",
    metadata,
    _id(),
    _to("project", "projects"),
    _to("pipeline", "pipelines", optional=True),
    _text("kind", None),
    _to("trigger", "triggers", optional=True, gone="SET NULL"),
    Column("parent_build", Integer, nullable=True),
    _moment("due_at", optional=True),
    _text("reason"),
    _text("submitter"),
    _integer("builds_left"),
    _integer("worst", 0),
    Column("result", Integer, nullable=True),
    _moment("created_at"),
    _moment("finished_at", optional=True),
    Index("ix_evaluations_project_id", "project", "id"),
    Index("ix_evaluations_pipeline_id", "pipeline", "id"),
    Index("ix_evaluations_trigger_id", "trigger", "id"),
    Index("ix_evaluations_parent_build", "parent_build"),
    Index("uq_evaluations_trigger_due_at", "trigger", "due_at", unique=True),
    sqlite_autoincrement=True,
)

evaluation_revisions = Table(
    "evaluation_revisions",
    metadata,
    _to("evaluation", "evaluations"),
    _text("input", None),
    _to("revision", "revisions"),
    PrimaryKeyConstraint("evaluation", "input"),
    Index("ix_evaluation_revisions_revision", "revision"),
)

evaluation_changes = Table(
    "evaluation_changes",
    metadata,
    _to("evaluation", "evaluations"),
    _to("change", "changes"),
    PrimaryKeyConstraint("evaluation", "change"),
    Index("ix_evaluation_changes_change", "change"),
)

locks = Table(
    "locks",
    metadata,
    _id(),
    Column("key", BYTEWISE, nullable=False, unique=True),
    _moment("created_at"),
    sqlite_autoincrement=True,
)

builds = Table(
    "builds",
    metadata,
    _id(),
    _uid(),
    _to("project", "projects"),
    _to("pipeline", "pipelines"),
    _to("version", "pipeline_versions", gone="RESTRICT"),
    _to("evaluation", "evaluations", gone="RESTRICT"),
    _to("revision", "revisions", optional=True, gone="RESTRICT"),
    _to("submitter", "users", optional=True, gone="SET NULL"),
    _to("concurrency", "locks", optional=True, gone="SET NULL"),
    Column("superseded_by", Integer, nullable=True),
    Column("first_job", Integer, nullable=True),
    _integer("number"),
    _text("name"),
    _text("system"),
    _integer("priority", 0),
    *_state(),
    _integer("worst"),
    _integer("jobs_total"),
    _integer("jobs_left"),
    _integer("cancel_requested", 0),
    _text("note"),
    _to("rebuild_of", "builds", optional=True, gone="SET NULL"),
    _integer("restarts", 0),
    _integer("keep", 0),
    _integer("trusted", 1),
    _text("ref"),
    _text("environment"),
    _integer("audience", 0),
    _integer("manifest", 0),
    _integer("secrets_enabled", 1),
    _moment("created_at"),
    _moment("started_at", optional=True),
    _moment("finished_at", optional=True),
    _integer("row_version"),
    _moment("logs_removed_at", optional=True),
    _moment("artifacts_removed_at", optional=True),
    _moment("removed_at", optional=True),
    Index("ix_builds_project_id", "project", "id"),
    Index("ix_builds_pipeline_name_id", "pipeline", "name", "id"),
    Index("ix_builds_concurrency", "concurrency", sqlite_where=IN_GROUP, postgresql_where=IN_GROUP),
    Index("ix_builds_evaluation", "evaluation"),
    Index("ix_builds_rebuild_of", "rebuild_of"),
    Index("ix_builds_revision", "revision"),
    Index("ix_builds_submitter_id", "submitter", "id"),
    Index("ix_builds_unfinished", "id", sqlite_where=UNFINISHED, postgresql_where=UNFINISHED),
    Index("ix_builds_unfinished_ref", "pipeline", "ref", "id", sqlite_where=UNFINISHED, postgresql_where=UNFINISHED),
    Index("ix_builds_removed", "id", sqlite_where=REMOVED, postgresql_where=REMOVED),
    Index("ix_builds_as_project", "project", "id", sqlite_where=AS_PROJECT, postgresql_where=AS_PROJECT),
    Index("ix_builds_published", "id", sqlite_where=PUBLISHED, postgresql_where=PUBLISHED),
    Index("ix_builds_published_project", "project", "id", sqlite_where=PUBLISHED, postgresql_where=PUBLISHED),
    Index("ix_builds_reserved", "submitter", "id", sqlite_where=RESERVED, postgresql_where=RESERVED),
    Index("ix_builds_manifest", "submitter", "id", sqlite_where=OF_MANIFEST, postgresql_where=OF_MANIFEST),
    sqlite_autoincrement=True,
)

evaluation_builds = Table(
    "evaluation_builds",
    metadata,
    _to("evaluation", "evaluations"),
    _to("build", "builds"),
    _integer("is_new", 1),
    PrimaryKeyConstraint("evaluation", "build"),
    Index("ix_evaluation_builds_build", "build"),
)

groups = Table(
    "groups",
    metadata,
    _id(),
    _to("account", "accounts"),
    _text("note"),
    _moment("created_at"),
    Index("ix_groups_account_id", "account", "id"),
    sqlite_autoincrement=True,
)

group_builds = Table(
    "group_builds",
    metadata,
    _to("group", "groups"),
    _to("build", "builds"),
    PrimaryKeyConstraint("group", "build"),
    Index("ix_group_builds_build", "build"),
)

build_access = Table(
    "build_access",
    metadata,
    _to("build", "builds"),
    Column("grantee", BYTEWISE, nullable=False),
    _integer("right"),
    PrimaryKeyConstraint("build", "grantee"),
    Index("ix_build_access_listed", "grantee", "build", sqlite_where=LISTED, postgresql_where=LISTED),
)

build_tags = Table(
    "build_tags",
    metadata,
    _to("build", "builds"),
    _integer("position"),
    _text("tag", None),
    PrimaryKeyConstraint("build", "position"),
    Index("ix_build_tags_tag_build", "tag", "build"),
)

build_secrets = Table(
    "build_secrets",
    metadata,
    _to("build", "builds"),
    _to("secret", "secrets"),
    PrimaryKeyConstraint("build", "secret"),
    Index("ix_build_secrets_secret", "secret"),
)

lanes = Table(
    "lanes",
    metadata,
    _id(),
    _to("requirement", "requirements"),
    _to("pipeline", "pipelines"),
    _to("project", "projects"),
    _to("account", "accounts"),
    _big("global_priority"),
    _integer("queued"),
    UniqueConstraint("pipeline", "requirement", "global_priority"),
    Index("ix_lanes_busy", "id", sqlite_where=text("queued > 0"), postgresql_where=text("queued > 0")),
    sqlite_autoincrement=True,
)

jobs = Table(
    "jobs",
    metadata,
    _id(),
    _uid(),
    _to("build", "builds"),
    _to("spec", "job_specs"),
    _to("lane", "lanes"),
    _integer("kind", 0),
    _integer("position"),
    _text("name", None),
    *_state(),
    _integer("blockers"),
    _integer("cancel_requested", 0),
    _integer("priority", 0),
    _integer("dependants", 0),
    _integer("allow_failure", 0),
    _integer("gates", 0),
    _integer("attempts", 0),
    _integer("lost", 0),
    _integer("restarts", 0),
    _moment("queued_at", optional=True),
    _moment("started_at", optional=True),
    _moment("finished_at", optional=True),
    _integer("row_version"),
    Index("ix_jobs_build_position", "build", "position"),
    Index(
        "ix_jobs_queue",
        "lane",
        text("priority DESC"),
        text("dependants DESC"),
        "id",
        sqlite_where=QUEUED,
        postgresql_where=QUEUED,
    ),
    sqlite_autoincrement=True,
)

build_jobs = Table(
    "build_jobs",
    metadata,
    _to("build", "builds"),
    _to("job", "jobs"),
    PrimaryKeyConstraint("build", "job"),
    Index("ix_build_jobs_job", "job"),
)

job_needs = Table(
    "job_needs",
    metadata,
    _to("job", "jobs"),
    _to("need", "jobs"),
    PrimaryKeyConstraint("job", "need"),
    Index("ix_job_needs_need", "need"),
)

blockers = Table(
    "blockers",
    metadata,
    _id(),
    _to("project", "projects"),
    _to("build", "builds"),
    _to("job", "jobs", optional=True),
    _text("kind", None),
    _text("name"),
    _to("lock", "locks", optional=True),
    _integer("most", 0),
    _moment("since"),
    _moment("until", optional=True),
    _text("details"),
    Index("ix_blockers_project_id", "project", "id"),
    Index("ix_blockers_build", "build"),
    Index("ix_blockers_job", "job"),
    Index("ix_blockers_line", "lock", "build", "job"),
    Index("ix_blockers_until", "until"),
    sqlite_autoincrement=True,
)

# --- work ---------------------------------------------------------------------------------------

workers = Table(
    "workers",
    metadata,
    _id(),
    _uid(),
    Column("name", BYTEWISE, nullable=False, unique=True),
    _text("session"),
    _text("state_id"),
    _text("labels"),
    _text("executors"),
    _text("system"),
    _integer("slots", 0),
    _text("version"),
    _integer("protocol", 0),
    _text("host"),
    _text("address"),
    _integer("paused", 0),
    _text("pause_reason"),
    _integer("draining", 0),
    Column("project", Integer, nullable=True),
    _integer("connected", 0),
    _moment("created_at"),
    _moment("seen_at"),
    _moment("removed_at", optional=True),
    Index("ix_workers_session", "session"),
    sqlite_autoincrement=True,
)

lock_holders = Table(
    "lock_holders",
    metadata,
    _id(),
    _to("lock", "locks", optional=True),
    _to("worker", "workers", optional=True),
    _text("name"),
    _to("build", "builds"),
    _to("job", "jobs", optional=True),
    _integer("most"),
    _moment("since"),
    Index("ix_lock_holders_lock_most", "lock", "most"),
    Index("ix_lock_holders_worker_name", "worker", "name"),
    Index("ix_lock_holders_build", "build"),
    Index("ix_lock_holders_job", "job"),
    sqlite_autoincrement=True,
)

servers = Table(
    "servers",
    metadata,
    _id(),
    Column("name", BYTEWISE, nullable=False, unique=True),
    _text("version"),
    _moment("started_at"),
    _moment("seen_at"),
    sqlite_autoincrement=True,
)

attempts = Table(
    "attempts",
    metadata,
    _id(),
    _to("job", "jobs"),
    _to("build", "builds"),
    _to("pipeline", "pipelines"),
    _integer("number"),
    Column("pipeline_number", Integer, nullable=True),
    _to("worker", "workers", gone="RESTRICT"),
    _text("session"),
    Column("token_hash", LargeBinary, nullable=False),
    _moment("leased_until"),
    *_state(),
    _integer("lost", 0),
    _moment("leased_at"),
    _moment("started_at", optional=True),
    _moment("finished_at", optional=True),
    _integer("row_version"),
    _moment("kept_until", optional=True),
    UniqueConstraint("job", "number"),
    UniqueConstraint("pipeline", "pipeline_number"),
    Index("ix_attempts_build", "build"),
    Index("ix_attempts_lease", "leased_until", sqlite_where=UNFINISHED, postgresql_where=UNFINISHED),
    Index("ix_attempts_worker", "worker", sqlite_where=UNFINISHED, postgresql_where=UNFINISHED),
    Index("ix_attempts_worker_id", "worker", "id"),
    sqlite_autoincrement=True,
)

terminals = Table(
    "terminals",
    metadata,
    Column("key", BYTEWISE, primary_key=True),
    _to("attempt", "attempts"),
    _to("worker", "workers"),
    _integer("rows"),
    _integer("columns"),
    _text("term"),
    _moment("created_at"),
    Index("ix_terminals_attempt", "attempt"),
    Index("ix_terminals_worker", "worker", "created_at"),
)

steps = Table(
    "steps",
    metadata,
    _id(),
    _uid(),
    _to("attempt", "attempts"),
    _integer("number"),
    _text("name", None),
    *_state(),
    _integer("lost", 0),
    Column("exit_status", Integer, nullable=True),
    _moment("started_at", optional=True),
    _moment("finished_at", optional=True),
    UniqueConstraint("attempt", "number"),
    sqlite_autoincrement=True,
)

secret_uses = Table(
    "secret_uses",
    metadata,
    _to("attempt", "attempts"),
    _to("secret", "secrets"),
    _moment("at"),
    PrimaryKeyConstraint("attempt", "secret"),
    Index("ix_secret_uses_secret", "secret"),
)

logs = Table(
    "logs",
    metadata,
    _id(),
    _to("attempt", "attempts"),
    _to("step", "steps"),
    _text("slug", None),
    _big("size"),
    _integer("lines", 0),
    _moment("created_at"),
    _moment("sealed_at", optional=True),
    _moment("removed_at", optional=True),
    UniqueConstraint("step", "slug"),
    Index("ix_logs_attempt", "attempt"),
    sqlite_autoincrement=True,
)

usage = Table(
    "usage",
    metadata,
    _to("pipeline", "pipelines"),
    _integer("hour"),
    _big("micros"),
    _integer("jobs"),
    PrimaryKeyConstraint("pipeline", "hour"),
    Index("ix_usage_hour", "hour"),
)

# --- kept ---------------------------------------------------------------------------------------

blobs = Table(
    "blobs",
    metadata,
    Column("sha256", BYTEWISE, primary_key=True),
    _big("size"),
    _integer("references", 0),
    _integer("doomed", 0),
    _moment("created_at"),
    _moment("used_at"),
    Index(
        "ix_blobs_unreferenced",
        "used_at",
        sqlite_where=text('"references" = 0'),
        postgresql_where=text('"references" = 0'),
    ),
)

artifacts = Table(
    "artifacts",
    metadata,
    _id(),
    _uid(),
    _to("build", "builds"),
    _to("job", "jobs"),
    _to("attempt", "attempts"),
    _text("path", None),
    Column("sha256", BYTEWISE, ForeignKey("blobs.sha256"), nullable=True),
    _big("size"),
    _integer("mode"),
    _integer("link", 0),
    _moment("created_at"),
    _moment("removed_at", optional=True),
    UniqueConstraint("attempt", "path"),
    Index("ix_artifacts_build_id", "build", "id"),
    Index("ix_artifacts_job", "job"),
    Index("ix_artifacts_sha256", "sha256"),
    sqlite_autoincrement=True,
)

caches = Table(
    "caches",
    metadata,
    _id(),
    _to("project", "projects"),
    _text("scope", None),
    _text("path", None),
    _text("key"),
    _integer("trusted", 1),
    Column("sha256", BYTEWISE, ForeignKey("blobs.sha256"), nullable=False),
    _big("size"),
    _moment("created_at"),
    _moment("used_at"),
    UniqueConstraint("project", "scope", "path", "key", "trusted"),
    Index("ix_caches_used_at", "used_at"),
    Index("ix_caches_sha256", "sha256"),
    sqlite_autoincrement=True,
)

test_result_sets = Table(
    "test_result_sets",
    metadata,
    _id(),
    _to("build", "builds"),
    _to("job", "jobs"),
    _to("step", "steps"),
    _text("description"),
    _text("category"),
    _text("unit"),
    _integer("passed"),
    _integer("failed"),
    _integer("skipped"),
    _integer("complete", 1),
    _moment("created_at"),
    Index("ix_test_result_sets_build_id", "build", "id"),
    Index("ix_test_result_sets_job", "job"),
    Index("ix_test_result_sets_step", "step"),
    sqlite_autoincrement=True,
)

test_results = Table(
    "test_results",
    metadata,
    _id(),
    _to("build", "builds"),
    _integer("result_set"),
    _text("name", None),
    _text("suite"),
    _text("path"),
    _integer("line", 0),
    _big("duration_ns"),
    _text("value", None),
    _text("message"),
    Index("ix_test_results_build_value_id", "build", "value", "id"),
    sqlite_autoincrement=True,
)

metrics = Table(
    "metrics",
    metadata,
    _id(),
    _to("build", "builds"),
    _to("pipeline", "pipelines"),
    _to("job", "jobs"),
    _text("name", None),
    _text("value", None),
    _text("unit"),
    UniqueConstraint("job", "name"),
    Index("ix_metrics_build_name_id", "build", "name", "id"),
    Index("ix_metrics_pipeline_name_id", "pipeline", "name", "id"),
    sqlite_autoincrement=True,
)

retention_rules = Table(
    "retention_rules",
    metadata,
    _to("project", "projects"),
    Column("pipeline", Integer, nullable=False),
    Column("what", BYTEWISE, nullable=False),
    Column("days", Integer, nullable=True),
    Column("count", Integer, nullable=True),
    Column("size", BigInteger, nullable=True),
    PrimaryKeyConstraint("project", "pipeline", "what"),
)

retention_marks = Table(
    "retention_marks",
    metadata,
    _to("pipeline", "pipelines"),
    Column("name", BYTEWISE, nullable=False),
    Column("what", BYTEWISE, nullable=False),
    _integer("upto"),
    PrimaryKeyConstraint("pipeline", "name", "what"),
)

log_removals = Table(
    "log_removals",
    metadata,
    Column("log", Integer, primary_key=True, autoincrement=False),
    _moment("noted_at"),
)

# --- telling ------------------------------------------------------------------------------------

events = Table(
    "events",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    _moment("at"),
    _text("kind", None),
    _text("entity", None),
    _integer("entity_id"),
    Column("project", Integer, nullable=True),
    Column("build", Integer, nullable=True),
    _text("data"),
    Index("ix_events_build_seq", "build", "seq"),
    Index("ix_events_at", "at"),
    sqlite_autoincrement=True,
)

audit = Table(
    "audit",
    metadata,
    _id(),
    _uid(),
    _moment("at"),
    _text("actor", None),
    Column("user", Integer, nullable=True),
    _text("action", None),
    _text("resource", None),
    _text("resource_id", None),
    Column("project", Integer, nullable=True),
    _text("reason"),
    _text("ip"),
    _text("agent"),
    _text("details"),
    Index("ix_audit_project_id", "project", "id"),
    Index("ix_audit_action_id", "action", "id"),
    Index("ix_audit_user_id", "user", "id"),
    Index("ix_audit_project_action_id", "project", "action", "id"),
    sqlite_autoincrement=True,
)

notifications = Table(
    "notifications",
    metadata,
    _id(),
    _uid(),
    _to("project", "projects"),
    _to("pipeline", "pipelines", optional=True),
    _to("build", "builds", optional=True),
    _to("group", "groups", optional=True),
    _text("condition", None),
    _text("action", None),
    _text("target", None),
    _text("defined_by"),
    _text("created_by"),
    _moment("created_at"),
    Index("ix_notifications_scope", "project", "pipeline", "build", "group"),
    Index("ix_notifications_standing", "project", "id", sqlite_where=STANDING, postgresql_where=STANDING),
    Index("ix_notifications_pipeline", "pipeline"),
    Index("ix_notifications_build", "build"),
    Index("ix_notifications_group", "group"),
    sqlite_autoincrement=True,
)

subscriptions = Table(
    "subscriptions",
    metadata,
    _id(),
    _to("user", "users"),
    _text("events", None),
    _text("query", None),
    _text("url", None),
    _text("allowed", None),
    _to("only_project", "projects", optional=True),
    _text("defined_by", None),
    _moment("created_at"),
    Index("ix_subscriptions_user_id", "user", "id"),
    sqlite_autoincrement=True,
)

deliveries = Table(
    "deliveries",
    metadata,
    _id(),
    _uid(),
    _integer("notification"),
    _integer("subscription", 0),
    _to("project", "projects"),
    _to("build", "builds"),
    _integer("restarts", 0),
    _text("event", None),
    _big("moment"),
    _text("kind", None),
    _text("address"),
    _text("host", None),
    _text("stream"),
    _integer("state", 0),
    _moment("due_at"),
    _text("lease"),
    _integer("attempts", 0),
    _integer("failures", 0),
    _text("error"),
    _integer("secret", 0),
    _moment("created_at"),
    _moment("finished_at", optional=True),
    UniqueConstraint(
        "build",
        "restarts",
        "event",
        "notification",
        "subscription",
        "address",
        "moment",
        name="uq_deliveries_of_event",
    ),
    Index("ix_deliveries_subscription_id", "subscription", "id", sqlite_where=SUBSCRIBED, postgresql_where=SUBSCRIBED),
    Index("ix_deliveries_due", "host", "due_at", sqlite_where=WAITING, postgresql_where=WAITING),
    Index("ix_deliveries_stream", "stream", "id", sqlite_where=STREAMED, postgresql_where=STREAMED),
    Index("ix_deliveries_project_id", "project", "id"),
    Index("ix_deliveries_state_id", "state", "id"),
    Index("ix_deliveries_project_state_id", "project", "state", "id"),
    sqlite_autoincrement=True,
)

delivery_attempts = Table(
    "delivery_attempts",
    metadata,
    _to("delivery", "deliveries"),
    _integer("number"),
    _moment("started_at"),
    _moment("finished_at", optional=True),
    _integer("status", 0),
    _text("error"),
    _text("request_body"),
    _text("response_headers"),
    _text("response_body"),
    PrimaryKeyConstraint("delivery", "number"),
)

counters = Table(
    "counters",
    metadata,
    Column("kind", BYTEWISE, nullable=False),
    Column("owner", Integer, nullable=False),
    Column("name", BYTEWISE, nullable=False),
    _big("value"),
    PrimaryKeyConstraint("kind", "owner", "name"),
)

settings = Table(
    "settings",
    metadata,
    Column("name", BYTEWISE, primary_key=True),
    _text("value", None),
)
