"""The first schema, version 0.1."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Make all tables; `pipelines` and their versions refer to each other, which PostgreSQL is told at the end."""
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", TEXT, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("user", sa.Integer(), nullable=True),
        sa.Column("action", TEXT, nullable=False),
        sa.Column("resource", TEXT, nullable=False),
        sa.Column("resource_id", TEXT, nullable=False),
        sa.Column("project", sa.Integer(), nullable=True),
        sa.Column("reason", TEXT, server_default="", nullable=False),
        sa.Column("ip", TEXT, server_default="", nullable=False),
        sa.Column("agent", TEXT, server_default="", nullable=False),
        sa.Column("details", TEXT, server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
        sa.UniqueConstraint("uid", name=op.f("uq_audit_uid")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_action_id", "audit", ["action", "id"])
    op.create_index("ix_audit_project_action_id", "audit", ["project", "action", "id"])
    op.create_index("ix_audit_project_id", "audit", ["project", "id"])
    op.create_index("ix_audit_user_id", "audit", ["user", "id"])
    op.create_table(
        "blobs",
        sa.Column("sha256", TEXT, nullable=False),
        sa.Column("size", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("references", sa.Integer(), server_default="0", nullable=False),
        sa.Column("doomed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_blobs")),
    )
    op.create_index(
        "ix_blobs_unreferenced",
        "blobs",
        ["used_at"],
        sqlite_where=sa.text('"references" = 0'),
        postgresql_where=sa.text('"references" = 0'),
    )
    op.create_table(
        "counters",
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("owner", sa.Integer(), nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("value", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("kind", "owner", "name", name=op.f("pk_counters")),
    )
    op.create_table(
        "events",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("entity", TEXT, nullable=False),
        sa.Column("entity_id", sa.Integer(), nullable=False),
        sa.Column("project", sa.Integer(), nullable=True),
        sa.Column("build", sa.Integer(), nullable=True),
        sa.Column("data", TEXT, server_default="", nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_events")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_at", "events", ["at"])
    op.create_index("ix_events_build_seq", "events", ["build", "seq"])
    op.create_table(
        "locks",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_locks")),
        sa.UniqueConstraint("key", name=op.f("uq_locks_key")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "renames",
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("parent", sa.Integer(), nullable=False),
        sa.Column("old_slug", TEXT, nullable=False),
        sa.Column("target", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "parent", "old_slug", name=op.f("pk_renames")),
    )
    op.create_table(
        "requirements",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_requirements")),
        sa.UniqueConstraint("key", name=op.f("uq_requirements_key")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "servers",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("version", TEXT, server_default="", nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_servers")),
        sa.UniqueConstraint("name", name=op.f("uq_servers_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "settings",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("value", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_settings")),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", TEXT, nullable=False),
        sa.Column("username", TEXT, nullable=False),
        sa.Column("email", TEXT, nullable=True),
        sa.Column("full_name", TEXT, server_default="", nullable=False),
        sa.Column("password_hash", TEXT, nullable=True),
        sa.Column("administrator", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("disabled_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("email", name=op.f("uq_users_email")),
        sa.UniqueConstraint("uid", name=op.f("uq_users_uid")),
        sa.UniqueConstraint("username", name=op.f("uq_users_username")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("session", TEXT, server_default="", nullable=False),
        sa.Column("state_id", TEXT, server_default="", nullable=False),
        sa.Column("labels", TEXT, server_default="", nullable=False),
        sa.Column("executors", TEXT, server_default="", nullable=False),
        sa.Column("system", TEXT, server_default="", nullable=False),
        sa.Column("slots", sa.Integer(), server_default="0", nullable=False),
        sa.Column("version", TEXT, server_default="", nullable=False),
        sa.Column("protocol", sa.Integer(), server_default="0", nullable=False),
        sa.Column("host", TEXT, server_default="", nullable=False),
        sa.Column("address", TEXT, server_default="", nullable=False),
        sa.Column("paused", sa.Integer(), server_default="0", nullable=False),
        sa.Column("pause_reason", TEXT, server_default="", nullable=False),
        sa.Column("draining", sa.Integer(), server_default="0", nullable=False),
        sa.Column("project", sa.Integer(), nullable=True),
        sa.Column("connected", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("removed_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
        sa.UniqueConstraint("name", name=op.f("uq_workers_name")),
        sa.UniqueConstraint("uid", name=op.f("uq_workers_uid")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_workers_session", "workers", ["session"])
    op.create_table(
        "accounts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("user", sa.Integer(), nullable=True),
        sa.Column("shares", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["user"], ["users.id"], name=op.f("fk_accounts_user"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
        sa.UniqueConstraint("name", name=op.f("uq_accounts_name")),
        sa.UniqueConstraint("uid", name=op.f("uq_accounts_uid")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_accounts_user", "accounts", ["user"])
    op.create_table(
        "groups",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account", sa.Integer(), nullable=False),
        sa.Column("note", TEXT, server_default="", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["accounts.id"], name=op.f("fk_groups_account"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_groups")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_groups_account_id", "groups", ["account", "id"])
    op.create_table(
        "images",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", TEXT, nullable=False),
        sa.Column("slug", TEXT, nullable=False),
        sa.Column("account", sa.Integer(), nullable=True),
        sa.Column("url", TEXT, nullable=False),
        sa.Column("public", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["accounts.id"], name=op.f("fk_images_account"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_images")),
        sa.UniqueConstraint("slug", name=op.f("uq_images_slug")),
        sa.UniqueConstraint("uid", name=op.f("uq_images_uid")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "projects",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", TEXT, nullable=False),
        sa.Column("slug", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("account", sa.Integer(), nullable=False),
        sa.Column("description", TEXT, server_default="", nullable=False),
        sa.Column("visibility", sa.Integer(), server_default="0", nullable=False),
        sa.Column("shares", sa.Integer(), server_default="1", nullable=False),
        sa.Column("public_logs", sa.Integer(), server_default="1", nullable=False),
        sa.Column("defined_by", TEXT, server_default="", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["accounts.id"], name=op.f("fk_projects_account"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_projects")),
        sa.UniqueConstraint("slug", name=op.f("uq_projects_slug")),
        sa.UniqueConstraint("uid", name=op.f("uq_projects_uid")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_projects_account_id", "projects", ["account", "id"])
    op.create_table(
        "caches",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("scope", TEXT, nullable=False),
        sa.Column("path", TEXT, nullable=False),
        sa.Column("key", TEXT, server_default="", nullable=False),
        sa.Column("trusted", sa.Integer(), server_default="1", nullable=False),
        sa.Column("sha256", TEXT, nullable=False),
        sa.Column("size", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.id"], name=op.f("fk_caches_project"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"], name=op.f("fk_caches_sha256")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_caches")),
        sa.UniqueConstraint(
            "project", "scope", "path", "key", "trusted", name=op.f("uq_caches_project_scope_path_key_trusted")
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_caches_sha256", "caches", ["sha256"])
    op.create_index("ix_caches_used_at", "caches", ["used_at"])
    op.create_table(
        "memberships",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user", sa.Integer(), nullable=False),
        sa.Column("account", sa.Integer(), nullable=True),
        sa.Column("project", sa.Integer(), nullable=True),
        sa.Column("role", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["accounts.id"], name=op.f("fk_memberships_account"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["project"], ["projects.id"], name=op.f("fk_memberships_project"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user"], ["users.id"], name=op.f("fk_memberships_user"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_memberships")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_memberships_account", "memberships", ["account"])
    op.create_index("ix_memberships_project", "memberships", ["project"])
    op.create_index("ix_memberships_user", "memberships", ["user"])
    op.create_index(
        "uq_memberships_user_account",
        "memberships",
        ["user", "account"],
        unique=True,
        sqlite_where=sa.text("project IS NULL"),
        postgresql_where=sa.text("project IS NULL"),
    )
    op.create_index(
        "uq_memberships_user_project",
        "memberships",
        ["user", "project"],
        unique=True,
        sqlite_where=sa.text("account IS NULL"),
        postgresql_where=sa.text("account IS NULL"),
    )
    op.create_table(
        "pipelines",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", TEXT, nullable=False),
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("slug", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("defined_by", TEXT, nullable=False),
        sa.Column("shares", sa.Integer(), server_default="1", nullable=False),
        sa.Column("next_number", sa.Integer(), server_default="1", nullable=False),
        sa.Column("next_attempt_number", sa.Integer(), server_default="1", nullable=False),
        sa.Column("latest_version", sa.Integer(), nullable=True),
        sa.Column("source", TEXT, server_default="", nullable=False),
        sa.Column("manifests", sa.Integer(), server_default="0", nullable=False),
        sa.Column("disabled_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["latest_version"],
            ["pipeline_versions.id"],
            name=op.f("fk_pipelines_latest_version"),
            ondelete="SET NULL",
            use_alter=True,
        ),
        sa.ForeignKeyConstraint(["project"], ["projects.id"], name=op.f("fk_pipelines_project"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pipelines")),
        sa.UniqueConstraint("project", "slug", name=op.f("uq_pipelines_project_slug")),
        sa.UniqueConstraint("uid", name=op.f("uq_pipelines_uid")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_pipelines_project_id", "pipelines", ["project", "id"])
    op.create_table(
        "revisions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("repository", TEXT, server_default="", nullable=False),
        sa.Column("branch", TEXT, server_default="", nullable=False),
        sa.Column("commit", TEXT, server_default="", nullable=False),
        sa.Column("codebase", TEXT, server_default="", nullable=False),
        sa.Column("message", TEXT, server_default="", nullable=False),
        sa.Column("author", TEXT, server_default="", nullable=False),
        sa.Column("patch", TEXT, nullable=True),
        sa.Column("source_blob", TEXT, nullable=True),
        sa.Column("source_size", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("shallow", sa.Integer(), server_default="1", nullable=False),
        sa.Column("submodules", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.id"], name=op.f("fk_revisions_project"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_revisions")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_revisions_project_id", "revisions", ["project", "id"])
    op.create_index("ix_revisions_repository_commit", "revisions", ["repository", "commit"])
    op.create_table(
        "triggers",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("enabled", sa.Integer(), server_default="1", nullable=False),
        sa.Column("spec", TEXT, nullable=False),
        sa.Column("defined_by", TEXT, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.id"], name=op.f("fk_triggers_project"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_triggers")),
        sa.UniqueConstraint("name", name=op.f("uq_triggers_name")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_triggers_kind_id", "triggers", ["kind", "id"])
    op.create_index("ix_triggers_project_id", "triggers", ["project", "id"])
    op.create_table(
        "trigger_pipelines",
        sa.Column("trigger", sa.Integer(), nullable=False),
        sa.Column("pipeline", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["pipeline"], ["pipelines.id"], name=op.f("fk_trigger_pipelines_pipeline"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["trigger"], ["triggers.id"], name=op.f("fk_trigger_pipelines_trigger"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("trigger", "pipeline", name=op.f("pk_trigger_pipelines")),
    )
    op.create_index("ix_trigger_pipelines_pipeline", "trigger_pipelines", ["pipeline", "trigger"])
    op.create_table(
        "trigger_upstreams",
        sa.Column("pipeline", sa.Integer(), nullable=False),
        sa.Column("trigger", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["pipeline"], ["pipelines.id"], name=op.f("fk_trigger_upstreams_pipeline"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["trigger"], ["triggers.id"], name=op.f("fk_trigger_upstreams_trigger"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("pipeline", "trigger", name=op.f("pk_trigger_upstreams")),
    )
    op.create_index("ix_trigger_upstreams_trigger", "trigger_upstreams", ["trigger"])
    op.create_table(
        "trigger_states",
        sa.Column("trigger", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("checked_at", sa.BigInteger(), nullable=True),
        sa.Column("next_at", sa.BigInteger(), nullable=True),
        sa.Column("requested_at", sa.BigInteger(), nullable=True),
        sa.Column("revision", TEXT, server_default="", nullable=False),
        sa.Column("error", TEXT, server_default="", nullable=False),
        sa.Column("error_at", sa.BigInteger(), nullable=True),
        sa.Column("leased_until", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["trigger"], ["triggers.id"], name=op.f("fk_trigger_states_trigger"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("trigger", name=op.f("pk_trigger_states")),
    )
    op.create_index("ix_trigger_states_kind_next_at", "trigger_states", ["kind", "next_at"])
    op.create_table(
        "evaluations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("pipeline", sa.Integer(), nullable=True),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("trigger", sa.Integer(), nullable=True),
        sa.Column("parent_build", sa.Integer(), nullable=True),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("reason", TEXT, server_default="", nullable=False),
        sa.Column("submitter", TEXT, server_default="", nullable=False),
        sa.Column("builds_left", sa.Integer(), nullable=False),
        sa.Column("worst", sa.Integer(), server_default="0", nullable=False),
        sa.Column("result", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["pipeline"], ["pipelines.id"], name=op.f("fk_evaluations_pipeline"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["project"], ["projects.id"], name=op.f("fk_evaluations_project"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["trigger"], ["triggers.id"], name=op.f("fk_evaluations_trigger"), ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evaluations")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_evaluations_parent_build", "evaluations", ["parent_build"])
    op.create_index("ix_evaluations_trigger_id", "evaluations", ["trigger", "id"])
    op.create_index("uq_evaluations_trigger_due_at", "evaluations", ["trigger", "due_at"], unique=True)
    op.create_index("ix_evaluations_pipeline_id", "evaluations", ["pipeline", "id"])
    op.create_index("ix_evaluations_project_id", "evaluations", ["project", "id"])
    op.create_table(
        "lanes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("requirement", sa.Integer(), nullable=False),
        sa.Column("pipeline", sa.Integer(), nullable=False),
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("account", sa.Integer(), nullable=False),
        sa.Column("global_priority", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("queued", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["accounts.id"], name=op.f("fk_lanes_account"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["pipeline"], ["pipelines.id"], name=op.f("fk_lanes_pipeline"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["project"], ["projects.id"], name=op.f("fk_lanes_project"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["requirement"], ["requirements.id"], name=op.f("fk_lanes_requirement"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lanes")),
        sa.UniqueConstraint(
            "pipeline", "requirement", "global_priority", name=op.f("uq_lanes_pipeline_requirement_global_priority")
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_lanes_busy", "lanes", ["id"], sqlite_where=sa.text("queued > 0"), postgresql_where=sa.text("queued > 0")
    )
    op.create_table(
        "pipeline_versions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("pipeline", sa.Integer(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("jobs", sa.Integer(), nullable=False),
        sa.Column("text", TEXT, server_default="", nullable=False),
        sa.Column("concurrency", TEXT, server_default="", nullable=False),
        sa.Column("secrets", TEXT, server_default="", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["pipeline"], ["pipelines.id"], name=op.f("fk_pipeline_versions_pipeline"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pipeline_versions")),
        sa.UniqueConstraint("pipeline", "hash", name=op.f("uq_pipeline_versions_pipeline_hash")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "usage",
        sa.Column("pipeline", sa.Integer(), nullable=False),
        sa.Column("hour", sa.Integer(), nullable=False),
        sa.Column("micros", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("jobs", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["pipeline"], ["pipelines.id"], name=op.f("fk_usage_pipeline"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("pipeline", "hour", name=op.f("pk_usage")),
    )
    op.create_index("ix_usage_hour", "usage", ["hour"])
    op.create_table(
        "builds",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", TEXT, nullable=False),
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("pipeline", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("evaluation", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=True),
        sa.Column("submitter", sa.Integer(), nullable=True),
        sa.Column("concurrency", sa.Integer(), nullable=True),
        sa.Column("superseded_by", sa.Integer(), nullable=True),
        sa.Column("first_job", sa.Integer(), nullable=True),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("name", TEXT, server_default="", nullable=False),
        sa.Column("system", TEXT, server_default="", nullable=False),
        sa.Column("priority", sa.Integer(), server_default="0", nullable=False),
        sa.Column("phase", sa.Integer(), nullable=False),
        sa.Column("result", sa.Integer(), nullable=True),
        sa.Column("cause", TEXT, server_default="", nullable=False),
        sa.Column("detail", TEXT, server_default="", nullable=False),
        sa.Column("worst", sa.Integer(), nullable=False),
        sa.Column("jobs_total", sa.Integer(), nullable=False),
        sa.Column("jobs_left", sa.Integer(), nullable=False),
        sa.Column("cancel_requested", sa.Integer(), server_default="0", nullable=False),
        sa.Column("note", TEXT, server_default="", nullable=False),
        sa.Column("rebuild_of", sa.Integer(), nullable=True),
        sa.Column("restarts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("keep", sa.Integer(), server_default="0", nullable=False),
        sa.Column("trusted", sa.Integer(), server_default="1", nullable=False),
        sa.Column("ref", TEXT, server_default="", nullable=False),
        sa.Column("environment", TEXT, server_default="", nullable=False),
        sa.Column("audience", sa.Integer(), server_default="0", nullable=False),
        sa.Column("manifest", sa.Integer(), server_default="0", nullable=False),
        sa.Column("secrets_enabled", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.Column("logs_removed_at", sa.BigInteger(), nullable=True),
        sa.Column("artifacts_removed_at", sa.BigInteger(), nullable=True),
        sa.Column("removed_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["concurrency"], ["locks.id"], name=op.f("fk_builds_concurrency"), ondelete="SET NULL"),
        sa.ForeignKeyConstraint(
            ["evaluation"], ["evaluations.id"], name=op.f("fk_builds_evaluation"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["pipeline"], ["pipelines.id"], name=op.f("fk_builds_pipeline"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["project"], ["projects.id"], name=op.f("fk_builds_project"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["rebuild_of"], ["builds.id"], name=op.f("fk_builds_rebuild_of"), ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["revision"], ["revisions.id"], name=op.f("fk_builds_revision"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(["submitter"], ["users.id"], name=op.f("fk_builds_submitter"), ondelete="SET NULL"),
        sa.ForeignKeyConstraint(
            ["version"], ["pipeline_versions.id"], name=op.f("fk_builds_version"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_builds")),
        sa.UniqueConstraint("uid", name=op.f("uq_builds_uid")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_builds_concurrency",
        "builds",
        ["concurrency"],
        sqlite_where=sa.text("concurrency IS NOT NULL"),
        postgresql_where=sa.text("concurrency IS NOT NULL"),
    )
    op.create_index("ix_builds_evaluation", "builds", ["evaluation"])
    op.create_index("ix_builds_pipeline_name_id", "builds", ["pipeline", "name", "id"])
    op.create_index("ix_builds_project_id", "builds", ["project", "id"])
    op.create_index(
        "ix_builds_as_project",
        "builds",
        ["project", "id"],
        sqlite_where=sa.text("audience = 0"),
        postgresql_where=sa.text("audience = 0"),
    )
    op.create_index(
        "ix_builds_published",
        "builds",
        ["id"],
        sqlite_where=sa.text("audience = 3"),
        postgresql_where=sa.text("audience = 3"),
    )
    op.create_index(
        "ix_builds_published_project",
        "builds",
        ["project", "id"],
        sqlite_where=sa.text("audience = 3"),
        postgresql_where=sa.text("audience = 3"),
    )
    op.create_index(
        "ix_builds_reserved",
        "builds",
        ["submitter", "id"],
        sqlite_where=sa.text("audience = 1 OR audience = 2"),
        postgresql_where=sa.text("audience = 1 OR audience = 2"),
    )
    op.create_index(
        "ix_builds_manifest",
        "builds",
        ["submitter", "id"],
        sqlite_where=sa.text("manifest = 1"),
        postgresql_where=sa.text("manifest = 1"),
    )
    op.create_index("ix_builds_rebuild_of", "builds", ["rebuild_of"])
    op.create_index("ix_builds_revision", "builds", ["revision"])
    op.create_index("ix_builds_submitter_id", "builds", ["submitter", "id"])
    op.create_index(
        "ix_builds_removed",
        "builds",
        ["id"],
        sqlite_where=sa.text("removed_at IS NOT NULL"),
        postgresql_where=sa.text("removed_at IS NOT NULL"),
    )
    op.create_index(
        "ix_builds_unfinished",
        "builds",
        ["id"],
        sqlite_where=sa.text("phase < 4"),
        postgresql_where=sa.text("phase < 4"),
    )
    op.create_index(
        "ix_builds_unfinished_ref",
        "builds",
        ["pipeline", "ref", "id"],
        sqlite_where=sa.text("phase < 4"),
        postgresql_where=sa.text("phase < 4"),
    )
    op.create_table(
        "ended_upstreams",
        sa.Column("build", sa.Integer(), nullable=False),
        sa.Column("trigger", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["build"], ["builds.id"], name=op.f("fk_ended_upstreams_build"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["trigger"], ["triggers.id"], name=op.f("fk_ended_upstreams_trigger"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("build", "trigger", name=op.f("pk_ended_upstreams")),
    )
    op.create_index("ix_ended_upstreams_next_at", "ended_upstreams", ["next_at"])
    op.create_index("ix_ended_upstreams_trigger", "ended_upstreams", ["trigger"])
    op.create_table(
        "manifest_readings",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("pipeline", sa.Integer(), nullable=False),
        sa.Column("trigger", sa.Integer(), nullable=False),
        sa.Column("firing", TEXT, nullable=False),
        sa.Column("changes", TEXT, nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["pipeline"], ["pipelines.id"], name=op.f("fk_manifest_readings_pipeline"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["trigger"], ["triggers.id"], name=op.f("fk_manifest_readings_trigger"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_manifest_readings")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_manifest_readings_next_at", "manifest_readings", ["next_at"])
    op.create_index("ix_manifest_readings_pipeline_id", "manifest_readings", ["pipeline", "id"])
    op.create_index("ix_manifest_readings_trigger", "manifest_readings", ["trigger"])
    op.create_table(
        "evaluation_revisions",
        sa.Column("evaluation", sa.Integer(), nullable=False),
        sa.Column("input", TEXT, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["evaluation"], ["evaluations.id"], name=op.f("fk_evaluation_revisions_evaluation"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["revision"], ["revisions.id"], name=op.f("fk_evaluation_revisions_revision"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("evaluation", "input", name=op.f("pk_evaluation_revisions")),
    )
    op.create_index("ix_evaluation_revisions_revision", "evaluation_revisions", ["revision"])
    op.create_table(
        "job_specs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("requirement", sa.Integer(), nullable=False),
        sa.Column("priority", sa.Integer(), server_default="0", nullable=False),
        sa.Column("dependants", sa.Integer(), server_default="0", nullable=False),
        sa.Column("allow_failure", sa.Integer(), server_default="0", nullable=False),
        sa.Column("gates", sa.Integer(), server_default="0", nullable=False),
        sa.Column("needs", TEXT, server_default="", nullable=False),
        sa.Column("spec", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["requirement"], ["requirements.id"], name=op.f("fk_job_specs_requirement"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["version"], ["pipeline_versions.id"], name=op.f("fk_job_specs_version"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_specs")),
        sa.UniqueConstraint("version", "position", name=op.f("uq_job_specs_version_position")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "build_access",
        sa.Column("build", sa.Integer(), nullable=False),
        sa.Column("grantee", TEXT, nullable=False),
        sa.Column("right", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["build"], ["builds.id"], name=op.f("fk_build_access_build"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("build", "grantee", name=op.f("pk_build_access")),
    )
    op.create_index(
        "ix_build_access_listed",
        "build_access",
        ["grantee", "build"],
        sqlite_where=sa.text('("right" & 1) = 1'),
        postgresql_where=sa.text('("right" & 1) = 1'),
    )
    op.create_table(
        "build_tags",
        sa.Column("build", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("tag", TEXT, nullable=False),
        sa.ForeignKeyConstraint(["build"], ["builds.id"], name=op.f("fk_build_tags_build"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("build", "position", name=op.f("pk_build_tags")),
    )
    op.create_index("ix_build_tags_tag_build", "build_tags", ["tag", "build"])
    op.create_table(
        "evaluation_builds",
        sa.Column("evaluation", sa.Integer(), nullable=False),
        sa.Column("build", sa.Integer(), nullable=False),
        sa.Column("is_new", sa.Integer(), server_default="1", nullable=False),
        sa.ForeignKeyConstraint(["build"], ["builds.id"], name=op.f("fk_evaluation_builds_build"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["evaluation"], ["evaluations.id"], name=op.f("fk_evaluation_builds_evaluation"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("evaluation", "build", name=op.f("pk_evaluation_builds")),
    )
    op.create_index("ix_evaluation_builds_build", "evaluation_builds", ["build"])
    op.create_table(
        "group_builds",
        sa.Column("group", sa.Integer(), nullable=False),
        sa.Column("build", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["build"], ["builds.id"], name=op.f("fk_group_builds_build"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["group"], ["groups.id"], name=op.f("fk_group_builds_group"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("group", "build", name=op.f("pk_group_builds")),
    )
    op.create_index("ix_group_builds_build", "group_builds", ["build"])
    op.create_table(
        "jobs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", TEXT, nullable=False),
        sa.Column("build", sa.Integer(), nullable=False),
        sa.Column("spec", sa.Integer(), nullable=False),
        sa.Column("lane", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Integer(), server_default="0", nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("phase", sa.Integer(), nullable=False),
        sa.Column("result", sa.Integer(), nullable=True),
        sa.Column("cause", TEXT, server_default="", nullable=False),
        sa.Column("detail", TEXT, server_default="", nullable=False),
        sa.Column("blockers", sa.Integer(), nullable=False),
        sa.Column("cancel_requested", sa.Integer(), server_default="0", nullable=False),
        sa.Column("priority", sa.Integer(), server_default="0", nullable=False),
        sa.Column("dependants", sa.Integer(), server_default="0", nullable=False),
        sa.Column("allow_failure", sa.Integer(), server_default="0", nullable=False),
        sa.Column("gates", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lost", sa.Integer(), server_default="0", nullable=False),
        sa.Column("restarts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("queued_at", sa.BigInteger(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["build"], ["builds.id"], name=op.f("fk_jobs_build"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["lane"], ["lanes.id"], name=op.f("fk_jobs_lane"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["spec"], ["job_specs.id"], name=op.f("fk_jobs_spec"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("uid", name=op.f("uq_jobs_uid")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_jobs_build_position", "jobs", ["build", "position"])
    op.create_table(
        "attempts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("job", sa.Integer(), nullable=False),
        sa.Column("build", sa.Integer(), nullable=False),
        sa.Column("pipeline", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("pipeline_number", sa.Integer(), nullable=True),
        sa.Column("worker", sa.Integer(), nullable=False),
        sa.Column("session", TEXT, server_default="", nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("leased_until", sa.BigInteger(), nullable=False),
        sa.Column("phase", sa.Integer(), nullable=False),
        sa.Column("result", sa.Integer(), nullable=True),
        sa.Column("cause", TEXT, server_default="", nullable=False),
        sa.Column("detail", TEXT, server_default="", nullable=False),
        sa.Column("lost", sa.Integer(), server_default="0", nullable=False),
        sa.Column("leased_at", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.Column("kept_until", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["build"], ["builds.id"], name=op.f("fk_attempts_build"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name=op.f("fk_attempts_job"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["pipeline"], ["pipelines.id"], name=op.f("fk_attempts_pipeline"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["worker"], ["workers.id"], name=op.f("fk_attempts_worker"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempts")),
        sa.UniqueConstraint("job", "number", name=op.f("uq_attempts_job_number")),
        sa.UniqueConstraint("pipeline", "pipeline_number", name=op.f("uq_attempts_pipeline_pipeline_number")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_attempts_build", "attempts", ["build"])
    op.create_index(
        "ix_attempts_lease",
        "attempts",
        ["leased_until"],
        sqlite_where=sa.text("phase < 4"),
        postgresql_where=sa.text("phase < 4"),
    )
    op.create_index(
        "ix_attempts_worker",
        "attempts",
        ["worker"],
        sqlite_where=sa.text("phase < 4"),
        postgresql_where=sa.text("phase < 4"),
    )
    op.create_index("ix_attempts_worker_id", "attempts", ["worker", "id"])
    op.create_table(
        "terminals",
        sa.Column("key", TEXT, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker", sa.Integer(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("columns", sa.Integer(), nullable=False),
        sa.Column("term", TEXT, server_default="", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["attempt"], ["attempts.id"], name=op.f("fk_terminals_attempt"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["worker"], ["workers.id"], name=op.f("fk_terminals_worker"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_terminals")),
    )
    op.create_index("ix_terminals_attempt", "terminals", ["attempt"])
    op.create_index("ix_terminals_worker", "terminals", ["worker", "created_at"])
    op.create_table(
        "build_jobs",
        sa.Column("build", sa.Integer(), nullable=False),
        sa.Column("job", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["build"], ["builds.id"], name=op.f("fk_build_jobs_build"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name=op.f("fk_build_jobs_job"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("build", "job", name=op.f("pk_build_jobs")),
    )
    op.create_index("ix_build_jobs_job", "build_jobs", ["job"])
    op.create_table(
        "job_needs",
        sa.Column("job", sa.Integer(), nullable=False),
        sa.Column("need", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name=op.f("fk_job_needs_job"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["need"], ["jobs.id"], name=op.f("fk_job_needs_need"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job", "need", name=op.f("pk_job_needs")),
    )
    op.create_index("ix_job_needs_need", "job_needs", ["need"])
    op.create_table(
        "artifacts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", TEXT, nullable=False),
        sa.Column("build", sa.Integer(), nullable=False),
        sa.Column("job", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("path", TEXT, nullable=False),
        sa.Column("sha256", TEXT, nullable=True),
        sa.Column("size", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("mode", sa.Integer(), nullable=False),
        sa.Column("link", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("removed_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["attempt"], ["attempts.id"], name=op.f("fk_artifacts_attempt"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["build"], ["builds.id"], name=op.f("fk_artifacts_build"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name=op.f("fk_artifacts_job"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"], name=op.f("fk_artifacts_sha256")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifacts")),
        sa.UniqueConstraint("attempt", "path", name=op.f("uq_artifacts_attempt_path")),
        sa.UniqueConstraint("uid", name=op.f("uq_artifacts_uid")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_artifacts_build_id", "artifacts", ["build", "id"])
    op.create_index("ix_artifacts_job", "artifacts", ["job"])
    op.create_index("ix_artifacts_sha256", "artifacts", ["sha256"])
    op.create_table(
        "notifications",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", TEXT, nullable=False),
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("pipeline", sa.Integer(), nullable=True),
        sa.Column("build", sa.Integer(), nullable=True),
        sa.Column("group", sa.Integer(), nullable=True),
        sa.Column("condition", TEXT, nullable=False),
        sa.Column("action", TEXT, nullable=False),
        sa.Column("target", TEXT, nullable=False),
        sa.Column("defined_by", TEXT, server_default="", nullable=False),
        sa.Column("created_by", TEXT, server_default="", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["build"], ["builds.id"], name=op.f("fk_notifications_build"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["group"], ["groups.id"], name=op.f("fk_notifications_group"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["pipeline"], ["pipelines.id"], name=op.f("fk_notifications_pipeline"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["project"], ["projects.id"], name=op.f("fk_notifications_project"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notifications")),
        sa.UniqueConstraint("uid", name=op.f("uq_notifications_uid")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_notifications_build", "notifications", ["build"])
    op.create_index("ix_notifications_group", "notifications", ["group"])
    op.create_index("ix_notifications_pipeline", "notifications", ["pipeline"])
    op.create_index("ix_notifications_scope", "notifications", ["project", "pipeline", "build", "group"])
    op.create_index(
        "ix_notifications_standing",
        "notifications",
        ["project", "id"],
        sqlite_where=sa.text("defined_by <> 'manifest'"),
        postgresql_where=sa.text("defined_by <> 'manifest'"),
    )
    op.create_table(
        "subscriptions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user", sa.Integer(), nullable=False),
        sa.Column("events", TEXT, nullable=False),
        sa.Column("query", TEXT, nullable=False),
        sa.Column("url", TEXT, nullable=False),
        sa.Column("allowed", TEXT, nullable=False),
        sa.Column("only_project", sa.Integer(), nullable=True),
        sa.Column("defined_by", TEXT, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["only_project"], ["projects.id"], name=op.f("fk_subscriptions_only_project"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user"], ["users.id"], name=op.f("fk_subscriptions_user"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subscriptions")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_subscriptions_user_id", "subscriptions", ["user", "id"])
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", TEXT, nullable=False),
        sa.Column("notification", sa.Integer(), nullable=False),
        sa.Column("subscription", sa.Integer(), server_default="0", nullable=False),
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("build", sa.Integer(), nullable=False),
        sa.Column("restarts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("event", TEXT, nullable=False),
        sa.Column("moment", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("address", TEXT, server_default="", nullable=False),
        sa.Column("host", TEXT, nullable=False),
        sa.Column("stream", TEXT, server_default="", nullable=False),
        sa.Column("state", sa.Integer(), server_default="0", nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("lease", TEXT, server_default="", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("error", TEXT, server_default="", nullable=False),
        sa.Column("secret", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["build"], ["builds.id"], name=op.f("fk_deliveries_build"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["project"], ["projects.id"], name=op.f("fk_deliveries_project"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
        sa.UniqueConstraint(
            "build",
            "restarts",
            "event",
            "notification",
            "subscription",
            "address",
            "moment",
            name=op.f("uq_deliveries_of_event"),
        ),
        sa.UniqueConstraint("uid", name=op.f("uq_deliveries_uid")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_deliveries_due",
        "deliveries",
        ["host", "due_at"],
        sqlite_where=sa.text("state = 0"),
        postgresql_where=sa.text("state = 0"),
    )
    op.create_index("ix_deliveries_project_id", "deliveries", ["project", "id"])
    op.create_index("ix_deliveries_project_state_id", "deliveries", ["project", "state", "id"])
    op.create_index("ix_deliveries_state_id", "deliveries", ["state", "id"])
    op.create_index(
        "ix_deliveries_stream",
        "deliveries",
        ["stream", "id"],
        sqlite_where=sa.text("stream > ''"),
        postgresql_where=sa.text("stream > ''"),
    )
    op.create_index(
        "ix_deliveries_subscription_id",
        "deliveries",
        ["subscription", "id"],
        sqlite_where=sa.text("subscription > 0"),
        postgresql_where=sa.text("subscription > 0"),
    )
    op.create_table(
        "delivery_attempts",
        sa.Column("delivery", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.Integer(), server_default="0", nullable=False),
        sa.Column("error", TEXT, server_default="", nullable=False),
        sa.Column("request_body", TEXT, server_default="", nullable=False),
        sa.Column("response_headers", TEXT, server_default="", nullable=False),
        sa.Column("response_body", TEXT, server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["delivery"], ["deliveries.id"], name=op.f("fk_delivery_attempts_delivery"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("delivery", "number", name=op.f("pk_delivery_attempts")),
    )
    op.create_table(
        "steps",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", TEXT, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("phase", sa.Integer(), nullable=False),
        sa.Column("result", sa.Integer(), nullable=True),
        sa.Column("cause", TEXT, server_default="", nullable=False),
        sa.Column("detail", TEXT, server_default="", nullable=False),
        sa.Column("lost", sa.Integer(), server_default="0", nullable=False),
        sa.Column("exit_status", sa.Integer(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["attempt"], ["attempts.id"], name=op.f("fk_steps_attempt"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_steps")),
        sa.UniqueConstraint("attempt", "number", name=op.f("uq_steps_attempt_number")),
        sa.UniqueConstraint("uid", name=op.f("uq_steps_uid")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "logs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("slug", TEXT, nullable=False),
        sa.Column("size", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lines", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("sealed_at", sa.BigInteger(), nullable=True),
        sa.Column("removed_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["attempt"], ["attempts.id"], name=op.f("fk_logs_attempt"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["step"], ["steps.id"], name=op.f("fk_logs_step"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_logs")),
        sa.UniqueConstraint("step", "slug", name=op.f("uq_logs_step_slug")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_logs_attempt", "logs", ["attempt"])
    op.create_table(
        "changes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("committer", TEXT, server_default="", nullable=False),
        sa.Column("files", TEXT, server_default="[]", nullable=False),
        sa.Column("category", TEXT, server_default="", nullable=False),
        sa.Column("link", TEXT, server_default="", nullable=False),
        sa.Column("parent", sa.Integer(), nullable=True),
        sa.Column("committed_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["parent"], ["changes.id"], name=op.f("fk_changes_parent"), ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["project"], ["projects.id"], name=op.f("fk_changes_project"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["revision"], ["revisions.id"], name=op.f("fk_changes_revision"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_changes")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_changes_parent", "changes", ["parent"])
    op.create_index("ix_changes_project_id", "changes", ["project", "id"])
    op.create_index("ix_changes_revision", "changes", ["revision"])
    op.create_table(
        "hook_deliveries",
        sa.Column("hook", TEXT, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("event", TEXT, server_default="", nullable=False),
        sa.Column("answer", TEXT, server_default="", nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hook", "key", name=op.f("pk_hook_deliveries")),
    )
    op.create_index("ix_hook_deliveries_received_at", "hook_deliveries", ["received_at"])
    op.create_table(
        "evaluation_changes",
        sa.Column("evaluation", sa.Integer(), nullable=False),
        sa.Column("change", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["change"], ["changes.id"], name=op.f("fk_evaluation_changes_change"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["evaluation"], ["evaluations.id"], name=op.f("fk_evaluation_changes_evaluation"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("evaluation", "change", name=op.f("pk_evaluation_changes")),
    )
    op.create_index("ix_evaluation_changes_change", "evaluation_changes", ["change"])
    op.create_table(
        "test_result_sets",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("build", sa.Integer(), nullable=False),
        sa.Column("job", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("description", TEXT, server_default="", nullable=False),
        sa.Column("category", TEXT, server_default="", nullable=False),
        sa.Column("unit", TEXT, server_default="", nullable=False),
        sa.Column("passed", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("skipped", sa.Integer(), nullable=False),
        sa.Column("complete", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["build"], ["builds.id"], name=op.f("fk_test_result_sets_build"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name=op.f("fk_test_result_sets_job"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["step"], ["steps.id"], name=op.f("fk_test_result_sets_step"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_test_result_sets")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_test_result_sets_build_id", "test_result_sets", ["build", "id"])
    op.create_index("ix_test_result_sets_job", "test_result_sets", ["job"])
    op.create_index("ix_test_result_sets_step", "test_result_sets", ["step"])
    op.create_table(
        "test_results",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("build", sa.Integer(), nullable=False),
        sa.Column("result_set", sa.Integer(), nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("suite", TEXT, server_default="", nullable=False),
        sa.Column("path", TEXT, server_default="", nullable=False),
        sa.Column("line", sa.Integer(), server_default="0", nullable=False),
        sa.Column("duration_ns", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("value", TEXT, nullable=False),
        sa.Column("message", TEXT, server_default="", nullable=False),
        sa.ForeignKeyConstraint(["build"], ["builds.id"], name=op.f("fk_test_results_build"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_test_results")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_test_results_build_value_id", "test_results", ["build", "value", "id"])
    op.create_table(
        "metrics",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("build", sa.Integer(), nullable=False),
        sa.Column("pipeline", sa.Integer(), nullable=False),
        sa.Column("job", sa.Integer(), nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("value", TEXT, nullable=False),
        sa.Column("unit", TEXT, server_default="", nullable=False),
        sa.ForeignKeyConstraint(["build"], ["builds.id"], name=op.f("fk_metrics_build"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name=op.f("fk_metrics_job"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["pipeline"], ["pipelines.id"], name=op.f("fk_metrics_pipeline"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_metrics")),
        sa.UniqueConstraint("job", "name", name=op.f("uq_metrics_job_name")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_metrics_build_name_id", "metrics", ["build", "name", "id"])
    op.create_index("ix_metrics_pipeline_name_id", "metrics", ["pipeline", "name", "id"])
    op.create_table(
        "retention_rules",
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("pipeline", sa.Integer(), nullable=False),
        sa.Column("what", TEXT, nullable=False),
        sa.Column("days", sa.Integer(), nullable=True),
        sa.Column("count", sa.Integer(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["project"], ["projects.id"], name=op.f("fk_retention_rules_project"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project", "pipeline", "what", name=op.f("pk_retention_rules")),
    )
    op.create_table(
        "retention_marks",
        sa.Column("pipeline", sa.Integer(), nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("what", TEXT, nullable=False),
        sa.Column("upto", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["pipeline"], ["pipelines.id"], name=op.f("fk_retention_marks_pipeline"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("pipeline", "name", "what", name=op.f("pk_retention_marks")),
    )
    op.create_table(
        "log_removals",
        sa.Column("log", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("noted_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("log", name=op.f("pk_log_removals")),
    )
    op.create_table(
        "blockers",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("build", sa.Integer(), nullable=False),
        sa.Column("job", sa.Integer(), nullable=True),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("name", TEXT, server_default="", nullable=False),
        sa.Column("lock", sa.Integer(), nullable=True),
        sa.Column("most", sa.Integer(), server_default="0", nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.Column("details", TEXT, server_default="", nullable=False),
        sa.ForeignKeyConstraint(["build"], ["builds.id"], name=op.f("fk_blockers_build"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name=op.f("fk_blockers_job"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["lock"], ["locks.id"], name=op.f("fk_blockers_lock"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["project"], ["projects.id"], name=op.f("fk_blockers_project"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_blockers")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_blockers_build", "blockers", ["build"])
    op.create_index("ix_blockers_job", "blockers", ["job"])
    op.create_index("ix_blockers_line", "blockers", ["lock", "build", "job"])
    op.create_index("ix_blockers_project_id", "blockers", ["project", "id"])
    op.create_index("ix_blockers_until", "blockers", ["until"])
    op.create_table(
        "lock_holders",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("lock", sa.Integer(), nullable=True),
        sa.Column("worker", sa.Integer(), nullable=True),
        sa.Column("name", TEXT, server_default="", nullable=False),
        sa.Column("build", sa.Integer(), nullable=False),
        sa.Column("job", sa.Integer(), nullable=True),
        sa.Column("most", sa.Integer(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["build"], ["builds.id"], name=op.f("fk_lock_holders_build"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name=op.f("fk_lock_holders_job"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["lock"], ["locks.id"], name=op.f("fk_lock_holders_lock"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["worker"], ["workers.id"], name=op.f("fk_lock_holders_worker"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lock_holders")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_lock_holders_build", "lock_holders", ["build"])
    op.create_index("ix_lock_holders_job", "lock_holders", ["job"])
    op.create_index("ix_lock_holders_lock_most", "lock_holders", ["lock", "most"])
    op.create_index("ix_lock_holders_worker_name", "lock_holders", ["worker", "name"])
    op.create_index(
        "ix_jobs_queue",
        "jobs",
        ["lane", sa.text("priority DESC"), sa.text("dependants DESC"), "id"],
        sqlite_where=sa.text("phase = 1"),
        postgresql_where=sa.text("phase = 1"),
    )
    op.create_table(
        "secrets",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", TEXT, nullable=False),
        sa.Column("account", sa.Integer(), nullable=True),
        sa.Column("project", sa.Integer(), nullable=True),
        sa.Column("pipeline", sa.Integer(), nullable=True),
        sa.Column("name", TEXT, nullable=True),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("path", TEXT, server_default="", nullable=False),
        sa.Column("mode", sa.Integer(), nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("from_user", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["account"], ["accounts.id"], name=op.f("fk_secrets_account"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["from_user"], ["users.id"], name=op.f("fk_secrets_from_user"), ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["pipeline"], ["pipelines.id"], name=op.f("fk_secrets_pipeline"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["project"], ["projects.id"], name=op.f("fk_secrets_project"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_secrets")),
        sa.UniqueConstraint("account", "name", name=op.f("uq_secrets_account_name")),
        sa.UniqueConstraint("pipeline", "name", name=op.f("uq_secrets_pipeline_name")),
        sa.UniqueConstraint("project", "name", name=op.f("uq_secrets_project_name")),
        sa.UniqueConstraint("uid", name=op.f("uq_secrets_uid")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_secrets_account_id", "secrets", ["account", "id"])
    op.create_index("ix_secrets_from_user", "secrets", ["from_user"])
    op.create_index("ix_secrets_key_id", "secrets", ["key", "id"])
    op.create_table(
        "build_secrets",
        sa.Column("build", sa.Integer(), nullable=False),
        sa.Column("secret", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["build"], ["builds.id"], name=op.f("fk_build_secrets_build"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["secret"], ["secrets.id"], name=op.f("fk_build_secrets_secret"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("build", "secret", name=op.f("pk_build_secrets")),
    )
    op.create_index("ix_build_secrets_secret", "build_secrets", ["secret"])
    op.create_table(
        "secret_uses",
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("secret", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["attempt"], ["attempts.id"], name=op.f("fk_secret_uses_attempt"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["secret"], ["secrets.id"], name=op.f("fk_secret_uses_secret"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("attempt", "secret", name=op.f("pk_secret_uses")),
    )
    op.create_index("ix_secret_uses_secret", "secret_uses", ["secret"])
    op.create_table(
        "tokens",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("user", sa.Integer(), nullable=False),
        sa.Column("name", TEXT, server_default="", nullable=False),
        sa.Column("scopes", TEXT, server_default="", nullable=False),
        sa.Column("project", sa.Integer(), nullable=True),
        sa.Column("labels", TEXT, server_default="", nullable=False),
        sa.Column("defined_by", TEXT, server_default="", nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["attempt"], ["attempts.id"], name=op.f("fk_tokens_attempt"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["project"], ["projects.id"], name=op.f("fk_tokens_project"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user"], ["users.id"], name=op.f("fk_tokens_user"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("hash", name=op.f("uq_tokens_hash")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_tokens_user", "tokens", ["user"])
    op.create_index("ix_tokens_attempt", "tokens", ["attempt"])
    if op.get_context().dialect.name == "postgresql":
        op.create_foreign_key(
            op.f("fk_pipelines_latest_version"),
            "pipelines",
            "pipeline_versions",
            ["latest_version"],
            ["id"],
            ondelete="SET NULL",
        )
