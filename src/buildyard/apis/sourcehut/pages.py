"""Pages of jobs for people, as plain HTML: what a link in a mail or a badge leads to."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

from buildyard.apis.sourcehut.plain import printable
from buildyard.domain.ids import SECOND, Moment

HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "x-frame-options": "DENY",
    "cache-control": "private, no-cache",
}
_STYLE = """:root { color-scheme: light dark; }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1.25rem; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .25rem .75rem .25rem 0; text-align: left; vertical-align: top; }
tr { border-bottom: 1px solid #8884; }
.note { white-space: pre-wrap; }"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A job in a list."""

    number: int
    url: str
    status: str
    tags: str
    note: str
    created_at: Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A task with its log, or a kept file: `beside` is its status or its size. Without a `url` it is gone."""

    name: str
    url: str
    beside: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPage:
    """What the page of one job shows; `owner` is a name without `~`, `home` where their jobs are listed."""

    number: int
    owner: str
    home: str
    status: str
    tags: str
    note: str
    created_at: Moment
    finished_at: Moment | None
    logs: tuple[Link, ...]
    artifacts: tuple[Link, ...]


def jobs_page(title: str, feed_url: str, rows: Sequence[Row]) -> str:
    """A list of jobs, newest first."""
    head = ("Job", "Status", "Tags", "Note", "Submitted")
    cells = [
        (_link(f"#{r.number}", r.url), _text(r.status), _text(r.tags), _text(r.note), _time(r.created_at)) for r in rows
    ]
    body = _table(head, cells) if rows else "<p>There is no job here that you may see.</p>\n"
    feed = f'<link rel="alternate" type="application/rss+xml" title="{_text(title)}" href="{_text(feed_url)}">\n'
    return _page(f"Jobs of {title}", f"{body}<p>{_link('Feed', feed_url)}</p>\n", feed)


def job_page(job: JobPage) -> str:
    """One job: how it stands, its logs and what it kept."""
    facts = [("Status", _text(job.status)), ("Submitted by", _link(f"~{job.owner}", job.home))]
    facts += [("Tags", _text(job.tags))] if job.tags else []
    facts += [("Submitted", _time(job.created_at))]
    facts += [("Ended", _time(job.finished_at))] if job.finished_at is not None else []
    parts = ["<dl>\n", *(f"<dt>{name}</dt><dd>{value}</dd>\n" for name, value in facts), "</dl>\n"]
    if job.note:
        parts.append(f'<p class="note">{_lines(job.note)}</p>\n')
    parts.append("<h2>Tasks</h2>\n" + _table(("Log", "Status"), _linked(job.logs)))
    if job.artifacts:
        parts.append("<h2>Artifacts</h2>\n" + _table(("File", "Size"), _linked(job.artifacts)))
    return _page(f"Job #{job.number}: {job.status}", "".join(parts))


def _linked(links: Iterable[Link]) -> list[tuple[str, ...]]:
    return [(_link(link.name, link.url), _text(link.beside)) for link in links]


def _page(title: str, body: str, head: str = "") -> str:
    name = _text(title)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name} · Buildyard</title>\n{head}<style>\n{_STYLE}\n</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{name}</h1>\n{body}</main>\n</body>\n</html>\n"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f'<th scope="col">{name}</th>' for name in head)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f"<table>\n<thead><tr>{top}</tr></thead>\n<tbody>\n{lines}</tbody>\n</table>\n"


def _link(text: str, url: str) -> str:
    return f'<a href="{_text(url)}">{_text(text)}</a>' if url else _text(text)


def _text(text: str) -> str:
    return escape(printable(text))


def _lines(text: str) -> str:
    return "\n".join(_text(line) for line in text.splitlines())


def _time(at: Moment) -> str:
    moment = datetime.fromtimestamp(at // SECOND, UTC)
    return f'<time datetime="{moment:%Y-%m-%dT%H:%M:%SZ}">{moment:%Y-%m-%d %H:%M} UTC</time>'
