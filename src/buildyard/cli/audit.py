"""`buildyard audit`: who did what, newest first; or what is done from now on."""

import asyncio
import itertools
import sys
from datetime import UTC, datetime

from buildyard.cli.connection import connected
from buildyard.cli.following import patiently
from buildyard.cli.output import console, print_json, print_line_json, print_table
from buildyard.client.messages import Act
from buildyard.client.native import NativeClient

POLL_S = 1.0
OVERLAP = 100
"""How many of the newest entries each look takes in: of two acts at once, the later may be seen first."""

REMEMBERED = 10_000


class Wanted:
    """Which entries are asked for."""

    def __init__(self, project: str, action: str, user: str) -> None:
        self._project, self._action, self._user = project, action, user

    async def page(self, client: NativeClient, limit: int, before: int | None = None) -> tuple[list[Act], int | None]:
        """A page, newest first, and what asks for the next."""
        found = await client.acts(
            project=self._project, action=self._action, user=self._user, before=before, limit=limit
        )
        return found.acts, found.before


async def show_audit(wanted: Wanted, *, limit: int, before: int | None, follow: bool, as_json: bool) -> None:
    """Print entries: a page of them, or the newest and then each as it comes."""
    async with connected() as client:
        if follow:
            await _follow(client, wanted, limit, as_json=as_json)
            return
        acts: list[Act] = []
        while len(acts) < limit:
            page, before = await wanted.page(client, min(limit - len(acts), 1000), before)
            acts += page
            if before is None:
                break
    if as_json:
        print_json(acts)
        return
    print_table(("id", "time", "who", "did", "to", "project", "why"), [_row(act) for act in acts])
    if before is not None:
        console(error=True).print(f"there may be more: --before {before}", markup=False)


def _row(act: Act) -> tuple[str, ...]:
    when = act.at.replace("T", " ")[:19]
    return str(act.id), when, act.actor, act.action, act.resource, act.project, act.reason


async def _follow(client: NativeClient, wanted: Wanted, limit: int, *, as_json: bool) -> None:
    """The newest entries, oldest first, and then what is new every second."""
    seen: dict[int, None] = {}
    first, _ = await wanted.page(client, min(limit, 1000))
    news = first
    while True:
        for act in sorted(news, key=lambda act: act.id):
            seen[act.id] = None
            _tell(act, as_json=as_json)
        for key in list(itertools.islice(seen, max(0, len(seen) - REMEMBERED))):
            del seen[key]
        await asyncio.sleep(POLL_S)
        news = await patiently(lambda: _news(client, wanted, seen, since=min(seen, default=0)), None)


async def _news(client: NativeClient, wanted: Wanted, seen: dict[int, None], *, since: int) -> list[Act]:
    """Entries not seen yet; pages back as long as there is nothing else on a page."""
    found: list[Act] = []
    before: int | None = None
    while True:
        page, before = await wanted.page(client, OVERLAP, before)
        new = [act for act in page if act.id not in seen and act.id > since]
        found += new
        if before is None or len(new) < len(page):
            return found


def _tell(act: Act, *, as_json: bool) -> None:
    if as_json:
        print_line_json(act)
        return
    where = f" in {act.project}" if act.project else ""
    why = f" ({act.reason})" if act.reason else ""
    at = datetime.fromisoformat(act.at).astimezone(UTC)
    console().print(f"{at:%Y-%m-%d %H:%M:%S} {act.actor} {act.action} {act.resource}{where}{why}", markup=False)
    sys.stdout.flush()
