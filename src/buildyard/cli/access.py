"""`buildyard token …` and `buildyard user …`."""

import getpass
import sys

from buildyard.cli.connection import connected
from buildyard.cli.output import console, print_json, print_table
from buildyard.cli.spans import span_seconds
from buildyard.client.messages import NewToken, NewUser
from buildyard.domain.errors import Invalid


async def create_token(
    user: str, scopes: list[str], *, name: str, project: str, labels: list[str], expires: str, as_json: bool
) -> None:
    """Make a token and print it, this once."""
    wanted = NewToken(
        user=user,
        scopes=[word for text in scopes for word in text.replace(",", " ").split()],
        name=name,
        project=project or None,
        labels=labels,
        expires_in_s=span_seconds(expires, "--expires") if expires else None,
    )
    async with connected() as client:
        token = await client.create_token(wanted)
    if as_json:
        print_json(token)
    else:
        sys.stdout.write(f"{token.token}\n")
        console(error=True).print(f"token {token.id} of {token.user}: {' '.join(token.scopes)}; it is not shown again")


async def list_tokens(user: str, *, as_json: bool) -> None:
    """Tokens of a user or of everyone."""
    async with connected() as client:
        tokens = (await client.tokens(user)).tokens
    if as_json:
        print_json(tokens)
        return
    rows = [
        (
            str(token.id),
            token.user,
            token.name,
            " ".join(token.scopes),
            token.project or "",
            " ".join(token.labels),
            token.expires_at or "",
            token.revoked_at or "",
        )
        for token in tokens
    ]
    print_table(("id", "user", "name", "scopes", "project", "labels", "expires", "revoked"), rows)


async def revoke_token(token: int, *, as_json: bool) -> None:
    """End a token."""
    async with connected() as client:
        await client.revoke_token(token)
    if as_json:
        print_json({"revoked": token})
    else:
        console().print(f"token {token} is revoked")


async def create_user(
    username: str, *, email: str, full_name: str, administrator: bool, password_stdin: bool, as_json: bool
) -> None:
    """Make a user; the password is asked for, or read from standard input."""
    wanted = NewUser(
        username=username,
        password=_password(username, from_stdin=password_stdin),
        email=email or None,
        full_name=full_name,
        administrator=administrator,
    )
    async with connected() as client:
        user = await client.create_user(wanted)
    if as_json:
        print_json(user)
    else:
        console().print(f"user {user.username} has id {user.id}")


async def list_users(*, as_json: bool) -> None:
    """Everyone."""
    async with connected() as client:
        users = (await client.users()).users
    if as_json:
        print_json(users)
        return
    rows = [(str(u.id), u.username, u.full_name, u.email or "", "yes" if u.administrator else "") for u in users]
    print_table(("id", "user", "name", "e-mail", "administrator"), rows)


async def set_password(username: str, *, password_stdin: bool, as_json: bool) -> None:
    """Change a password."""
    password = _password(username, from_stdin=password_stdin)
    async with connected() as client:
        await client.set_password(username, password)
    if as_json:
        print_json({"user": username})
    else:
        console().print(f"the password of {username} is changed")


def _password(username: str, *, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    if not sys.stdin.isatty():
        raise Invalid("there is no terminal to ask for the password: use --password-stdin")
    password = getpass.getpass(f"new password of {username}: ")
    if getpass.getpass("again: ") != password:
        raise Invalid("the two passwords differ")
    return password
