"""People who leave: their doors closed, their secrets gone, their work stopped; what they did keeps their name."""

from buildyard.domain.access import Actor, ActorKind, Permission, Visibility
from buildyard.domain.errors import Forbidden, Unauthenticated
from buildyard.domain.ids import UserId
from buildyard.engine.engine import Engine
from buildyard.engine.stopping import stop_build
from buildyard.store import audit, builds, identity, projects, secrets, subscriptions
from buildyard.store.transactions import Transaction

AT_ONCE = 50
"""So many builds are stopped in one transaction."""


async def delete_own_account(engine: Engine, actor: Actor) -> UserId:
    """End the actor's account: nobody signs in as them any more, and nobody else can take their name.

    Tokens, password, e-mail address, roles, webhooks and the secrets of their own account go at once; their projects
    become private; unfinished builds that they submitted are stopped. A call that was cut off may be repeated.
    """
    user = await engine.run(require_may_leave, actor)
    while await engine.run(stop_some, actor):
        pass
    await engine.run(close_account, actor)
    return user


async def require_may_leave(tx: Transaction, actor: Actor) -> UserId:
    """Raise unless the actor may end their own account, with a token that can do all that they can."""
    if actor.kind is ActorKind.ANONYMOUS:
        raise Unauthenticated("sign in to delete your account")
    if actor.user is None or actor.only_project is not None or Permission.MANAGE_SELF not in actor.allowed:
        raise Forbidden(f"{actor.name} may not delete an account with this token")
    if actor.administrator and await identity.count_administrators(tx) < 2:
        raise Forbidden("the last administrator cannot be deleted")
    return actor.user


async def stop_some(tx: Transaction, actor: Actor) -> bool:
    """Stop some of the unfinished builds that the actor submitted; False: none are left that go on by themselves."""
    user = await require_may_leave(tx, actor)
    found = await builds.open_of_submitter(tx, user, AT_ONCE)
    for key in found:
        await stop_build(tx, key, detail=f"the account {actor.name} was deleted")
    return bool(found)


async def close_account(tx: Transaction, actor: Actor) -> None:
    """Take from the actor whatever opens a door, and what nobody else may have."""
    user = await require_may_leave(tx, actor)
    for token in await identity.tokens_of(tx, user):
        await identity.revoke_token(tx, token.id)
    await subscriptions.remove_of(tx, user)
    if actor.account is not None:
        await secrets.remove_of_account(tx, actor.account)
        for project in await projects.search(tx, actor.account):
            await projects.change(tx, project.id, name=project.name, visibility=Visibility.PRIVATE)
    await identity.close(tx, user)
    await audit.add(tx, actor, "user.delete", actor.name)
