# For the jobs of buildyard.yml, to be read with `.`: pip's cache in the workspace, and
#
#     make_env FOLDER PYTHON LOCK    a virtual environment with what a lock file names; PYTHON - takes any that fits
#
# It needs no ensurepip, which some Pythons lack: a pip that is there already installs into the new environment.
export PIP_CACHE_DIR="$PWD/.cache/pip" PIP_DISABLE_PIP_VERSION_CHECK=1
mkdir -p "$PIP_CACHE_DIR"

any_python() {
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "no Python of at least 3.11 in $PATH" >&2
    return 1
}

into() { # into FOLDER install …
    target=$1
    shift
    if [ -x "$target/bin/pip" ]; then
        "$target/bin/pip" "$@"
    else
        pip --python "$target/bin/python" "$@"
    fi
}

make_env() {
    python=$2
    [ "$python" != - ] || python=$(any_python)
    echo "environment $1: $("$python" --version), $3"
    "$python" -m venv --without-pip "$1"
    if ! command -v pip >/dev/null; then
        "$python" -m ensurepip --version >/dev/null && "$python" -m venv "$1"
    fi
    into "$1" install --quiet --require-hashes --requirement "$3"
}
