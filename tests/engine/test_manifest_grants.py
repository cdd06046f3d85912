"""What jobs of manifests are given when they are leased: facts, exact commits of several sources, installed secrets."""

import pytest
from sqlalchemy import update

from buildyard.domain.access import ANONYMOUS, Actor, Permission
from buildyard.domain.errors import Invalid, Stale, Unauthenticated
from buildyard.domain.secrets import SecretKind, SecretValue
from buildyard.domain.specs import GitSource, NamedSource, SecretUse, TokenUse
from buildyard.domain.states import Result
from buildyard.engine import builds, identity, revisions, secret_keys, secrets
from buildyard.engine.secrets import NewSecret, Place
from buildyard.protocol import GrantedSecret, JobGrant, PinRevision
from buildyard.store.statements import Statement, given
from buildyard.store.tables import builds as build_rows
from world import QUEUE_LIMIT, WORKER, World, job

DISTRUST = Statement(update(build_rows).where(build_rows.c.id == given("build")).values(trusted=0))
FIRST, SECOND, THIRD = "a" * 40, "b" * 40, "c" * 40
APP = NamedSource(folder="app", git=GitSource(url="https://example.org/~bob/app", branch="main"))
LIB = NamedSource(folder="lib", git=GitSource(url="https://example.org/~bob/lib"))


async def pin(world: World, grant: JobGrant, source: str, commit: str, token: str = "") -> str:
    """Tell of a commit; which one counts."""
    found = PinRevision(
        attempt=grant.attempt, token=token or grant.token, source=source, commit=commit, subject="Fix", author="A"
    )
    return (await world.engine.run(revisions.pin_revision, WORKER, found)).commit


def commits(grant: JobGrant) -> dict[str, str]:
    """Which commit of each source a job is to check out."""
    return {source.folder: source.git.commit for source in grant.spec.sources}


@pytest.mark.covers("worker.facts")
async def test_facts_of_the_build_are_variables_that_the_server_adds(world: World) -> None:
    facts = {"JOB_ID": "{build}", "JOB_URL": "{server}/~{account}/job/{build}", "ODD": "{other} {"}
    view = await world.submit(job("one", facts=facts))

    grant = await (await world.hand()).take()

    url = f"{world.engine.policy.public_url}/~bob/job/{view.build.id}"
    assert grant.environment == {"JOB_ID": str(view.build.id), "JOB_URL": url, "ODD": "{other} {"}
    assert grant.spec.environment == {}


@pytest.mark.covers("workspace.sources")
async def test_each_source_of_a_build_stays_at_the_commit_that_was_found_first(world: World) -> None:
    view = await world.submit(job("one", sources=(APP, LIB)))
    hand = await world.hand()
    grant = await hand.take()
    assert commits(grant) == {"app": "", "lib": ""}
    assert grant.git is None

    assert await pin(world, grant, "app", FIRST) == FIRST
    assert await pin(world, grant, "app", SECOND) == FIRST
    await hand.restart()
    again = await hand.take()

    assert again.number == 2
    assert commits(again) == {"app": FIRST, "lib": ""}
    assert again.spec.sources[0].git.branch == "main"
    assert await pin(world, again, "lib", THIRD) == THIRD
    await hand.finish(again)
    await world.engine.run(
        builds.rebuild_build, world.administrator, view.build.uid, reason="", queue_limit=QUEUE_LIMIT
    )
    rebuilt = await hand.take()
    assert commits(rebuilt) == {"app": FIRST, "lib": THIRD}


@pytest.mark.covers("workspace.sources")
async def test_the_revision_that_a_build_shows_is_made_exact_with_the_source_of_the_same_place(world: World) -> None:
    view = await world.submit(job("one", sources=(APP, LIB)), source=APP.git)
    grant = await (await world.hand()).take()
    assert grant.git is None

    await pin(world, grant, "lib", SECOND)
    await pin(world, grant, "app", FIRST)

    revision = (await world.build(view)).revision
    assert revision is not None
    assert (revision.commit, revision.message, revision.author) == (FIRST, "Fix", "A")


@pytest.mark.covers("workspace.sources")
async def test_a_source_that_the_job_has_not_and_a_worker_that_holds_it_not_are_refused(world: World) -> None:
    await world.submit(job("one", sources=(APP,)))
    grant = await (await world.hand()).take()

    with pytest.raises(Invalid):
        await pin(world, grant, "other", FIRST)
    with pytest.raises(Invalid):
        await pin(world, grant, "app", "abc1234")
    with pytest.raises(Stale):
        await pin(world, grant, "app", FIRST, token="not it")


async def put(world: World, name: str, kind: SecretKind, **more: object) -> str:
    """Set a secret of the project; its uid."""
    wanted = NewSecret(name=name, value=SecretValue(f"value of {name}".encode()), kind=kind, **more)  # type: ignore[arg-type]
    keys = world.engine.keys
    view = await world.engine.run(secrets.set_secret, world.owner, Place(project="hello"), wanted, keys)
    return view.secret.uid


@pytest.mark.covers("secrets.installed")
async def test_secrets_are_found_by_uid_too_and_installed_where_programs_look_for_them(world: World) -> None:
    assert await secret_keys.prepare_keys(world.engine) == ""
    ssh = await put(world, "deploy", SecretKind.SSH_KEY, path="elsewhere")
    pgp = await put(world, "signing", SecretKind.PGP_KEY)
    file = await put(world, "netrc", SecretKind.FILE, path=".netrc", mode=0o640)
    await put(world, "TOKEN", SecretKind.VARIABLE)
    other = await put(world, "OTHER", SecretKind.VARIABLE)
    uses = tuple(SecretUse(name=name, given="install") for name in (ssh, "signing", file, "TOKEN", other))
    await world.submit(job("one", secrets=uses))

    grant = await (await world.hand()).take()

    def secret(name: str, of: str, kind: SecretKind, **more: object) -> GrantedSecret:
        value = f"value of {of}".encode()
        return GrantedSecret(name=name, value=value, kind=kind, installed=True, **more)  # type: ignore[arg-type]

    assert grant.refused == ""
    assert grant.secrets == [
        secret(ssh, "deploy", SecretKind.SSH_KEY, variable="", path=f".ssh/{ssh}"),
        secret("signing", "signing", SecretKind.PGP_KEY, variable="", path=f".secrets/{pgp}.asc"),
        secret(file, "netrc", SecretKind.FILE, variable="", path=".netrc", mode=0o640),
        secret("TOKEN", "TOKEN", SecretKind.VARIABLE, variable="TOKEN"),
        secret(other, "OTHER", SecretKind.VARIABLE, variable="OTHER"),
    ]


@pytest.mark.covers("secrets.installed")
async def test_a_uid_does_not_reach_secrets_of_others(world: World) -> None:
    assert await secret_keys.prepare_keys(world.engine) == ""
    other = await world.other_project()
    wanted = NewSecret(name="deploy", value=SecretValue(b"a value"), kind=SecretKind.SSH_KEY)
    view = await world.engine.run(secrets.set_secret, world.owner, Place(project=other.slug), wanted, world.engine.keys)

    with pytest.raises(Invalid, match="there is no secret"):
        await world.submit(job("one", secrets=(SecretUse(name=view.secret.uid, given="install"),)))


TOKEN = TokenUse(scopes=("jobs:write", "secrets:write", "*"))


async def bearer(world: World, grant: JobGrant) -> Actor:
    """Who a job is with its token."""
    (secret,) = grant.secrets
    assert (secret.variable, secret.path) == ("OAUTH2_TOKEN", "")
    return await world.engine.read(identity.actor_of_token, ANONYMOUS, secret.value.decode())


@pytest.mark.covers("worker.lent_token")
async def test_a_job_has_a_token_of_its_submitter_for_jobs_of_its_project_and_no_more(world: World) -> None:
    await world.submit(job("one", token=TOKEN))
    grant = await (await world.hand()).take()

    actor = await bearer(world, grant)

    assert (actor.name, actor.only_project) == (world.administrator.name, world.project.id)
    assert actor.allowed == frozenset({Permission.READ, Permission.RUN, Permission.CANCEL})
    shown = await world.engine.read(identity.list_tokens, world.administrator, None)
    assert all(token.attempt is None for token in shown)


@pytest.mark.covers("worker.lent_token")
async def test_a_token_counts_until_its_attempt_has_ended(world: World) -> None:
    await world.submit(job("one", token=TOKEN), job("two", token=TOKEN))
    hand = await world.hand(slots=2)
    one, two = await hand.claim(2)
    await bearer(world, one)

    await hand.finish(one, Result.FAILURE)
    with pytest.raises(Unauthenticated):
        await bearer(world, one)
    await bearer(world, two)
    await hand.restart()
    with pytest.raises(Unauthenticated):
        await bearer(world, two)
    again = await hand.take()

    assert again.secrets != two.secrets
    await bearer(world, again)


@pytest.mark.covers("worker.lent_token")
async def test_a_claim_that_is_repeated_gives_the_same_token(world: World) -> None:
    await world.submit(job("one", token=TOKEN))
    hand = await world.hand()
    first = await hand.take()

    again = (await hand.poll(have=[])).jobs

    assert [grant.secrets for grant in again] == [first.secrets]
    await bearer(world, first)


@pytest.mark.covers("worker.lent_token")
async def test_work_that_is_not_trusted_gets_no_token_and_its_log_says_so(world: World) -> None:
    view = await world.submit(job("one", token=TOKEN))
    await world.engine.database.run(lambda tx: tx.execute(DISTRUST, build=view.build.id))

    grant = await (await world.hand()).take()

    assert grant.secrets == []
    assert grant.notes == ["OAUTH2_TOKEN: no token, for this build is not trusted"]
