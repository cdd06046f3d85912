"""Feeds of jobs that ended, in RSS 2.0."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from html import escape

from buildyard.apis.sourcehut.plain import printable
from buildyard.domain.ids import SECOND, Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A job that ended. `url` is its page, and what tells entries apart."""

    url: str
    title: str
    text: str
    ended_at: Moment


def feed(*, title: str, page: str, address: str, entries: Sequence[Entry]) -> str:
    """The feed at `address`, of what `page` shows; its entries are newest first."""
    newest = max((entry.ended_at for entry in entries), default=None)
    return "".join(
        [
            '<?xml version="1.0" encoding="UTF-8"?>\n',
            '<rss version="2.0" xmlns:atom="http://www.w3.org/2005/Atom">\n<channel>\n',
            _element("title", title),
            _element("link", page),
            f'<atom:link rel="self" type="application/rss+xml" href="{_quoted(address)}"/>\n',
            _element("description", "Jobs that ended, newest first"),
            _element("generator", "Buildyard"),
            "" if newest is None else _element("lastBuildDate", _date(newest)),
            *(_item(entry) for entry in entries),
            "</channel>\n</rss>\n",
        ]
    )


def _item(entry: Entry) -> str:
    parts = (
        _element("title", entry.title),
        _element("link", entry.url),
        f'<guid isPermaLink="true">{_quoted(entry.url)}</guid>\n',
        _element("pubDate", _date(entry.ended_at)),
        _element("description", escape(printable(entry.text))) if entry.text else "",  # readers take it for HTML
    )
    return f"<item>\n{''.join(parts)}</item>\n"


def _element(name: str, text: str) -> str:
    return f"<{name}>{_quoted(text)}</{name}>\n"


def _quoted(text: str) -> str:
    return escape(printable(text))


def _date(at: Moment) -> str:
    return format_datetime(datetime.fromtimestamp(at // SECOND, UTC), usegmt=True)
