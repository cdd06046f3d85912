"""Says what a test needs from the machine: missing means skip, or failure where everything is required."""

import os
import shutil

import pytest


def need(present: object, what: str) -> None:
    """Go on if `present` is true; else skip, or fail where BUILDYARD_REQUIRE=all; `what` names part and remedy."""
    if present:
        return
    if os.environ.get("BUILDYARD_REQUIRE") == "all":
        pytest.fail(f"required but missing: {what}")
    pytest.skip(f"missing: {what}")


def need_program(name: str) -> str:
    """The path of a program on the PATH; see `need`."""
    path = shutil.which(name)
    need(path, f"program {name} (Debian: apt-get install {name})")
    assert path is not None
    return path
