"""Who may do what: every permission for every kind of actor."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildyard.domain.access import (
    ALL,
    ANONYMOUS,
    ROLE_MAY,
    SCOPE_MAY,
    SYSTEM,
    Actor,
    ActorKind,
    Owner,
    Permission,
    Role,
    Visibility,
    may,
    require,
    require_global,
)
from buildyard.domain.errors import Forbidden, NotFound, Unauthenticated
from buildyard.domain.ids import AccountId, ProjectId

pytestmark = pytest.mark.covers("engine.roles", "engine.access.unseen", "engine.tokens")

MINE, OTHER = ProjectId(1), ProjectId(2)
ACCOUNT = AccountId(1)


def user(
    role: Role | None = None, *, on: str = "account", allowed: frozenset[Permission] = ALL, **more: object
) -> Actor:
    return Actor(
        kind=ActorKind.USER,
        name="bob",
        allowed=allowed,
        account_roles={ACCOUNT: role} if role and on == "account" else {},
        project_roles={MINE: role} if role and on == "project" else {},
        **more,  # type: ignore[arg-type]  # fields of Actor
    )


@pytest.mark.parametrize("permission", Permission)
@pytest.mark.parametrize("visibility", Visibility)
def test_strangers_and_anonymous_read_what_is_public_or_unlisted_and_nothing_else(
    permission: Permission, visibility: Visibility
) -> None:
    owner = Owner(MINE, ACCOUNT, visibility)
    expected = permission is Permission.READ and visibility is not Visibility.PRIVATE
    assert may(ANONYMOUS, permission, owner) == may(user(), permission, owner) == expected


@pytest.mark.parametrize("on", ["account", "project"])
@pytest.mark.parametrize("permission", Permission)
@pytest.mark.parametrize("role", Role)
def test_a_role_may_what_its_table_says(role: Role, permission: Permission, on: str) -> None:
    owner = Owner(MINE, ACCOUNT, Visibility.PRIVATE)
    assert may(user(role, on=on), permission, owner) == (permission in ROLE_MAY[role])


def test_each_role_includes_the_one_before() -> None:
    for lower, higher in zip(Role, list(Role)[1:], strict=False):
        assert ROLE_MAY[lower] < ROLE_MAY[higher]


@pytest.mark.parametrize("scope", SCOPE_MAY)
@pytest.mark.parametrize("permission", Permission)
def test_a_token_bounds_even_an_owner_and_an_administrator(scope: str, permission: Permission) -> None:
    owner = Owner(MINE, ACCOUNT, Visibility.PRIVATE)
    bounded = user(Role.OWNER, allowed=SCOPE_MAY[scope])
    assert may(bounded, permission, owner) == (permission in SCOPE_MAY[scope] and permission in ROLE_MAY[Role.OWNER])
    chief = user(administrator=True, allowed=SCOPE_MAY[scope])
    assert may(chief, permission, owner) == (permission in SCOPE_MAY[scope])


@pytest.mark.parametrize("permission", Permission)
def test_a_token_of_one_project_opens_no_other(permission: Permission) -> None:
    bound = user(Role.OWNER, administrator=True, only_project=OTHER)
    assert not may(bound, permission, Owner(MINE, ACCOUNT, Visibility.PUBLIC))
    assert may(bound, permission, Owner(OTHER, ACCOUNT, Visibility.PRIVATE))


@given(
    role=st.sampled_from([None, *Role]),
    permission=st.sampled_from(list(Permission)),
    visibility=st.sampled_from(list(Visibility)),
    allowed=st.frozensets(st.sampled_from(list(Permission))),
)
def test_a_refusal_says_no_more_than_the_actor_may_know(
    role: Role | None, permission: Permission, visibility: Visibility, allowed: frozenset[Permission]
) -> None:
    owner, actor = Owner(MINE, ACCOUNT, visibility), user(role, allowed=allowed)
    if may(actor, permission, owner):
        require(actor, permission, owner, "build")
    elif may(actor, Permission.READ, owner):
        with pytest.raises(Forbidden):
            require(actor, permission, owner, "build")
    else:
        with pytest.raises(NotFound, match="build not found"):
            require(actor, permission, owner, "build")


def test_anonymous_is_asked_to_sign_in_for_what_he_sees_only() -> None:
    with pytest.raises(Unauthenticated):
        require(ANONYMOUS, Permission.RUN, Owner(MINE, ACCOUNT, Visibility.PUBLIC), "build")
    with pytest.raises(NotFound):
        require(ANONYMOUS, Permission.RUN, Owner(MINE, ACCOUNT, Visibility.PRIVATE), "build")


@pytest.mark.parametrize("permission", Permission)
def test_the_server_as_a_whole_is_for_administrators_but_images_for_all_signed_in(permission: Permission) -> None:
    require_global(SYSTEM, permission, "act")
    with pytest.raises(Unauthenticated):
        require_global(ANONYMOUS, permission, "act")
    if permission is Permission.CREATE_IMAGE:
        require_global(user(), permission, "act")
    else:
        with pytest.raises(Forbidden):
            require_global(user(Role.OWNER), permission, "act")
    with pytest.raises(Forbidden):
        require_global(user(administrator=True, allowed=frozenset()), permission, "act")
