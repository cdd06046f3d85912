#!/bin/sh
# Makes .venv and installs what a lock file names:  tools/make_venv.sh runtime|dev
# Needs a Python of at least 3.11 (PYTHON names one) and a package index. Does nothing if all is there already.
set -eu
cd "$(dirname "$0")/.."
lock="locks/$1.txt"
wanted=$(cat "$lock" pyproject.toml | cksum)

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
        if new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    echo "Buildyard needs Python 3.11 or newer, with its module venv (Debian: apt-get install python3 python3-venv)." >&2
    exit 1
}

if [ "$(cat .venv/installed-dev 2>/dev/null)" = "$(cat locks/dev.txt pyproject.toml | cksum)" ]; then
    exit 0
fi
if [ "$(cat ".venv/installed-$1" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi
if ! [ -x .venv/bin/python ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    echo "making .venv with $python ($("$python" -c 'import platform; print(platform.python_version())'))"
    rm -rf .venv
    if ! "$python" -m venv .venv >.venv.log 2>&1; then
        rm -rf .venv
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            echo "installing python3-venv, which this Python lacks"
            version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
            { apt-get update -qq && apt-get install -y -qq --no-install-recommends "python$version-venv"; } >>.venv.log 2>&1 ||
                apt-get install -y -qq --no-install-recommends python3-venv >>.venv.log 2>&1 || true
            "$python" -m venv .venv >>.venv.log 2>&1 || true
        fi
    fi
    if ! [ -x .venv/bin/python ]; then
        cat .venv.log >&2
        echo "cannot make a virtual environment: install the module venv of $python (Debian: apt-get install python3-venv)" >&2
        exit 1
    fi
    rm -f .venv.log
fi
echo "installing $lock"
.venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check --require-hashes --requirement "$lock"
.venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
printf '%s\n' "$wanted" >".venv/installed-$1"
