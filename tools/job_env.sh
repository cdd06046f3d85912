# For the jobs of buildyard.yml, to be read with `.`:
#
#     make_env FOLDER PYTHON LOCK    a virtual environment with what a lock file names; PYTHON - takes any that fits
#     into FOLDER ARGUMENT…          pip, working on that environment
#
# Packages are kept in .cache/wheels, so that a job which gets that folder from its cache asks no package index.
# The pip that works is one of them: it needs no installing (`python pip.whl/pip …`), and fits every Python, while
# the one of a Python may be missing or be too old for the others.
export PIP_DISABLE_PIP_VERSION_CHECK=1
wheels="$PWD/.cache/wheels"
mkdir -p "$wheels"

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

fetch_pip() { # fetch_pip PYTHON: any pip that runs at all can fetch the one that is wanted
    for pip in "pip" "$1 -m pip" "python3 -m pip"; do
        if $pip download --quiet --no-deps --require-hashes --requirement locks/pip.txt --dest "$wheels" 2>/dev/null; then
            return
        fi
    done
    "$1" -m venv "$TMPDIR/only-pip"
    "$TMPDIR/only-pip/bin/pip" download --quiet --no-deps --require-hashes --requirement locks/pip.txt --dest "$wheels"
}

into() {
    target=$1
    shift
    "$target/bin/python" "$(ls "$wheels"/pip-*.whl)/pip" "$@"
}

make_env() {
    python=$2
    [ "$python" != - ] || python=$(any_python)
    echo "environment $1: $("$python" --version), $3"
    "$python" -m venv --without-pip "$1"
    ls "$wheels"/pip-*.whl >/dev/null 2>&1 || fetch_pip "$python"
    if ! into "$1" install --quiet --no-index --find-links "$wheels" --require-hashes --requirement "$3" 2>/dev/null; then
        into "$1" download --quiet --find-links "$wheels" --dest "$wheels" --require-hashes --requirement "$3"
        into "$1" install --quiet --no-index --find-links "$wheels" --require-hashes --requirement "$3"
    fi
}
