"""Badges, feeds and pages are well-formed whatever users wrote, and say it as it is."""

from html import unescape
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildyard.apis.sourcehut.badges import COLOURS, badge
from buildyard.apis.sourcehut.feeds import Entry, feed
from buildyard.apis.sourcehut.pages import JobPage, Link, Row, job_page, jobs_page
from buildyard.domain.ids import SECOND, Moment

SVG = "{http://www.w3.org/2000/svg}"
NASTY = '</text><script>alert("1")</script>&\x00\x1b[31m\u202e'
AT = Moment(1_800_000_000 * SECOND)


def entry(text: str) -> Entry:
    """A job that ended, of which users wrote this."""
    return Entry(url="https://example.org/~bob/job/7", title=f"{text} #7: success", text=text, ended_at=AT)


def feed_of(*entries: Entry) -> str:
    """A feed with these entries."""
    return feed(
        title="bob", page="https://example.org/~bob", address="https://example.org/~bob/rss.xml", entries=entries
    )


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=80), status=st.sampled_from(sorted(COLOURS)))
def test_whatever_users_wrote_badges_and_feeds_are_well_formed(text: str, status: str) -> None:
    picture = ElementTree.fromstring(badge(text, status))
    channel = ElementTree.fromstring(feed_of(entry(text), entry("")).encode("utf-8"))

    assert picture.tag == f"{SVG}svg"
    assert len(channel.findall("./channel/item")) == 2


@pytest.mark.covers("sourcehut.badges.picture")
@pytest.mark.parametrize("status", sorted(COLOURS))
def test_a_badge_says_its_label_and_status_to_eyes_and_ears_and_runs_nothing(status: str) -> None:
    picture = ElementTree.fromstring(badge(NASTY, status))

    title = picture.findtext(f"{SVG}title")
    assert title is not None
    assert title.startswith("</text><script>alert")
    assert title.endswith(f": {status}")
    assert picture.attrib["role"] == "img"
    assert picture.attrib["aria-label"] == title
    assert [each.text for each in picture.iter(f"{SVG}text")][-1] == status
    assert {each.tag.removeprefix(SVG) for each in picture.iter()} == {"svg", "title", "clipPath", "rect", "g", "text"}


def contrast(colour: str) -> float:
    """With white text; see the definition of contrast in WCAG 2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05)


def test_every_colour_can_be_read() -> None:
    assert min(contrast(colour) for colour in COLOURS.values()) > 4.5


def test_a_long_label_is_cut() -> None:
    picture = ElementTree.fromstring(badge("x" * 500, "success"))

    assert int(picture.attrib["width"]) < 600


@pytest.mark.covers("sourcehut.feed.form")
def test_a_feed_names_each_job_once_with_its_date_and_what_users_wrote_is_text() -> None:
    channel = ElementTree.fromstring(feed_of(entry(NASTY)).encode())

    assert channel.attrib["version"] == "2.0"
    assert channel.findtext("./channel/link") == "https://example.org/~bob"
    assert channel.findtext("./channel/lastBuildDate") == "Fri, 15 Jan 2027 08:00:00 GMT"
    item = channel.find("./channel/item")
    assert item is not None
    assert item.findtext("guid") == item.findtext("link") == "https://example.org/~bob/job/7"
    assert item.findtext("pubDate") == "Fri, 15 Jan 2027 08:00:00 GMT"
    shown = item.findtext("description")
    assert shown is not None
    assert "<" not in shown
    assert unescape(shown).startswith("</text><script>")
    assert ElementTree.fromstring(feed_of().encode()).find("./channel/item") is None


def test_pages_show_what_users_wrote_as_text() -> None:
    link = Link(name=NASTY, url='https://example.org/"><script>', beside=NASTY)
    row = Row(number=7, url=link.url, status="success", tags=NASTY, note=NASTY, created_at=AT)
    job = JobPage(
        number=7,
        owner="bob",
        home="https://example.org/~bob",
        status="success",
        tags=NASTY,
        note=f"one\n{NASTY}",
        created_at=AT,
        finished_at=AT,
        logs=(link,),
        artifacts=(link,),
    )

    for page in (jobs_page(NASTY, link.url, [row]), jobs_page("~bob", link.url, []), job_page(job)):
        assert "<script" not in page
        assert page.count("<h1>") == 1
        assert '<html lang="en">' in page
