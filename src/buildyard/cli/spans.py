"""Spans of time as people type them."""

import re

from buildyard.domain.errors import Invalid

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def span_seconds(text: str, option: str) -> int:
    """The seconds of `90s`, `10m`, `12h` or `30d`; `option` is named if it is none of these."""
    match = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if not match:
        raise Invalid(f"{option} takes a time like 12h or 30d, not {text!r}")
    return int(match[1]) * _UNITS[match[2]]
