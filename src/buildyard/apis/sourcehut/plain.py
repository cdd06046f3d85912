"""Text of users on its way into XML and HTML: what these cannot hold or nobody can see, is replaced."""

import re

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
"""Control characters, marks that turn the direction of writing, and what XML 1.0 excludes (section 2.2)."""


def printable(text: str) -> str:
    """One line of text that shows as it is stored."""
    return _UNPRINTABLE.sub("\ufffd", " ".join(text.split()))
