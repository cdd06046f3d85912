"""Badges: small pictures that say how the newest job went, drawn here so that nothing is fetched from elsewhere."""

from html import escape

from buildyard.apis.sourcehut.plain import printable

UNKNOWN = "unknown"
"""The word where there is no job to speak of, or none that the asker may see."""

COLOURS = {"success": "#2b7a0b", "failed": "#b3261e", "timeout": "#a85b00", UNKNOWN: "#5f6368"}
"""Each with a contrast of more than 4.5 to white text."""

LONGEST = 60
_PADDING = 6
_HEIGHT = 20
_NARROW, _WIDE = frozenset("ijl.,:;|!'I tfr-()[]/"), frozenset("mwMWQ@%&—")


def badge(label: str, status: str) -> str:
    """An SVG picture with a label and a status beside it; screen readers hear both."""
    name = printable(label)
    name = name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
    left, right = _width(name), _width(status)
    title, whole = escape(f"{name}: {status}"), left + right
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{whole}" height="{_HEIGHT}" role="img" aria-label="{title}">'
        f"<title>{title}</title>"
        f'<clipPath id="r"><rect width="{whole}" height="{_HEIGHT}" rx="3"/></clipPath>'
        f'<g clip-path="url(#r)"><rect width="{left}" height="{_HEIGHT}" fill="#3c4043"/>'
        f'<rect x="{left}" width="{right}" height="{_HEIGHT}" fill="{COLOURS[status]}"/></g>'
        f'<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">'
        f"{_text(name, left / 2, left)}{_text(status, left + right / 2, right)}</g></svg>\n"
    )


def _text(text: str, middle: float, width: int) -> str:
    """A word that takes up exactly its part, whatever font there is."""
    return f'<text x="{middle:g}" y="14" textLength="{width - 2 * _PADDING}">{escape(text)}</text>'


def _width(text: str) -> int:
    letters = sum(4 if one in _NARROW else 10 if one in _WIDE or ord(one) > 0x2E7F else 7 for one in text)
    return letters + 2 * _PADDING
