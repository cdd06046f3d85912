"""The command line: `buildyard`. It talks HTTP with a server, but for `serve`, `worker` and parts of `doctor`."""

import sys


def main() -> int:
    """Entry point; answers `--version` before anything heavy is imported."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from buildyard.version import VERSION

        sys.stdout.write(f"buildyard {VERSION}\n")
        return 0
    from buildyard.cli.app import run_app

    return run_app()


def spare_rich() -> None:
    """Keep structlog from importing Rich, for tracebacks that nobody uses: 9 MB as long as a server or worker lives."""
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type] # None is how an import is refused
