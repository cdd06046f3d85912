#!/bin/sh
# Writes locks/*.txt anew: exact versions with hashes, and no word about where they come from.
# Needs uv (in the group dev). Further arguments go to `uv pip compile`, such as --upgrade.
set -eu
cd "$(dirname "$0")/.."
UV="${UV:-.venv/bin/uv}"

lock() {
    name=$1
    shift
    "$UV" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
        --no-emit-index-url --no-emit-find-links --output-file "locks/$name.txt" "$@"
    echo "locks/$name.txt: $(grep -c '==' "locks/$name.txt") packages"
}

mkdir -p locks
lock pip --group pip "$@"
lock build --group build "$@"
lock lint --group lint "$@"
lock runtime pyproject.toml --extra graphql --group build "$@"
lock types pyproject.toml --extra graphql --group types "$@"
lock test pyproject.toml --extra graphql --group build --group test "$@"
lock dev pyproject.toml --extra graphql --group dev "$@"
