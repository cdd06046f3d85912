"""The scripts that a manifest's job runs: the file of its environment, what precedes each task, packages.

Whatever comes from a manifest stands in them quoted.
"""

import shlex
from collections.abc import Mapping, Sequence

from buildyard.domain.manifests import EnvironmentValue, Repository

BUILDENV = "~/.buildenv"
DONE_FILE = ".complete-build"

_FUNCTIONS = f"""
complete-build() {{
    : > ~/{DONE_FILE}
    exit 0
}}
if [ "$(id -u)" = 0 ] && ! command -v sudo > /dev/null 2>&1; then
    sudo() {{
        {{ local -; set +x; }} 2> /dev/null
        while :; do
            case "${{1-}}" in
                -E | -H | -n | --) shift ;;
                *) break ;;
            esac
        done
        env "$@"
    }}
fi
"""

_ACURL = """
acurl() (
    { set +x; } 2> /dev/null
    curl --oauth2-bearer "$OAUTH2_TOKEN" "$@"
)
"""


def environment_script(environment: Mapping[str, EnvironmentValue]) -> str:
    """Makes `~/.buildenv` unless it is there: what each task reads before it begins, and may add to."""
    lines = ["# Read before each task.", "export CI_NAME=sourcehut"]
    lines += [_assignment(name, value) for name, value in environment.items()]
    content = "\n".join(lines) + _FUNCTIONS
    return f"[ -e {BUILDENV} ] || printf %s {shlex.quote(content)} > {BUILDENV}\n"


def _assignment(name: str, value: EnvironmentValue) -> str:
    match value:
        case tuple():
            return f"{name}=({' '.join(map(shlex.quote, value))})"
        case bool():
            return f"export {name}={'true' if value else 'false'}"
        case _:
            return f"export {name}={shlex.quote(value or '')}"


def task_script(script: str, *, before: str, oauth: bool) -> str:
    """A task as bash runs it: `before`, the environment, then its own lines, each shown, up to the first that fails."""
    acurl = _ACURL if oauth else ""
    return f"{before}set +e\n. {BUILDENV}\n{acurl}set -xe\n{script}"


def notes_script(notes: Sequence[str]) -> str:
    """Says sentences."""
    return "".join(f"printf '%s\\n' {shlex.quote(note)}\n" for note in notes)


# --- packages -----------------------------------------------------------------------------------


def packages_script(packages: Sequence[str], repositories: Sequence[Repository]) -> str:
    """Adds repositories, installs packages and what tasks need to begin, where that is the job's to do.

    For any POSIX shell. It is the job's where it is root in a container; elsewhere it says that it did not.
    """
    wanted = " ".join(map(shlex.quote, packages))
    adding = "".join(
        f"add_repository {shlex.quote(one.name)} {shlex.quote(one.name.replace('/', '-'))} {shlex.quote(one.url)}\n"
        for one in repositories
    )
    words = [
        *([f"packages ({', '.join(packages)})"] if packages else []),
        *([f"repositories ({', '.join(one.name for one in repositories)})"] if repositories else []),
    ]
    parts = shlex.quote(" and ".join(words))
    functions = _MANAGERS + (_ADDING if repositories else "")
    return f"set -eu\nparts={parts}\n{_WHETHER}{functions}{adding}set -- {wanted}\n{_INSTALL}"


_WHETHER = """
say() { printf '%s\\n' "$*"; }
refuse() {
    [ -z "$parts" ] || say "$1: $parts of the manifest are not installed; tasks find what is there"
    exit 0
}
[ "${BUILDYARD_EXECUTOR-}" = container ] || refuse "executor ${BUILDYARD_EXECUTOR-} uses this machine's own tools"
[ "$(id -u)" = 0 ] || refuse "the job is not root in its container"
manager=''
for each in apk apt-get dnf microdnf yum pacman zypper xbps-install nix-env; do
    if command -v "$each" > /dev/null 2>&1; then
        manager=$each
        break
    fi
done
[ -n "$manager" ] || refuse "the image has no package manager that is known"
"""

_MANAGERS = """
install() {
    say "installing with $manager: $*"
    case $manager in
        apk) apk add --update-cache "$@" ;;
        apt-get)
            export DEBIAN_FRONTEND=noninteractive
            apt-get -q update
            apt-get -q -y install "$@"
            ;;
        dnf | microdnf | yum) "$manager" -y install "$@" ;;
        pacman) pacman -Syu --noconfirm --needed "$@" ;;
        zypper) zypper --non-interactive install "$@" ;;
        xbps-install) xbps-install -Sy "$@" ;;
        nix-env) nix-env -iA "$@" ;;
    esac
}
"""

_ADDING = """
fetch() {
    if command -v curl > /dev/null 2>&1; then
        curl -fsSL -o "$2" -- "$1"
    else
        wget -q -O "$2" -- "$1"
    fi
}
# Given: a repository's name, the name of a file for it, and the words of its address.
add_repository() {
    say "adding the repository $1"
    name=$1 file=$2
    set -f
    # shellcheck disable=SC2086 # the words are wanted
    set -- $3
    set +f
    case $manager in
        apk) add_to_apk "$@" ;;
        apt-get) add_to_apt "$@" ;;
        dnf | microdnf | yum) add_to_dnf "$@" ;;
        pacman) add_to_pacman "$@" ;;
        zypper)
            check=--no-gpgcheck
            [ -z "${2-}" ] || { rpm --import "$2" && check=--gpgcheck; }
            zypper --non-interactive addrepo "$check" -f "$1" "$file"
            ;;
        xbps-install) mkdir -p /etc/xbps.d && printf 'repository=%s\\n' "$1" > "/etc/xbps.d/$file.conf" ;;
        nix-env) nix-channel --add "$1" "$name" && nix-channel --update "$name" ;;
    esac
}
# URL [URL of the key [its file]]
add_to_apk() {
    if [ -n "${2-}" ]; then
        key=${3:-${2##*/}}
        fetch "$2" "/etc/apk/keys/${key##*/}"
    fi
    printf '%s\\n' "$1" >> /etc/apk/repositories
}
# URL SUITE COMPONENT… [id or URL of the key]
add_to_apt() {
    line='' key=''
    for word; do
        key=$word
    done
    if [ $# -gt 2 ] && expr "$key" : '0\\{0,1\\}x\\{0,1\\}[0-9A-Fa-f]\\{8,40\\}$' > /dev/null; then
        missing=''
        command -v gpg > /dev/null 2>&1 || missing=gnupg
        command -v dirmngr > /dev/null 2>&1 || missing="$missing dirmngr"
        # shellcheck disable=SC2086
        [ -z "$missing" ] || install ca-certificates $missing
        ring=/etc/apt/keyrings/$file.gpg
        mkdir -p /etc/apt/keyrings
        gpg --batch --no-default-keyring --keyring "gnupg-ring:$ring" \\
            --keyserver hkps://keyserver.ubuntu.com --recv-keys "$key"
        chmod 644 "$ring"
    elif [ $# -gt 2 ] && expr "$key" : 'https\\{0,1\\}://' > /dev/null; then
        ring=/etc/apt/keyrings/$file.asc
        command -v curl > /dev/null 2>&1 || command -v wget > /dev/null 2>&1 || install ca-certificates curl
        mkdir -p /etc/apt/keyrings
        fetch "$key" "$ring"
    else
        key='' ring=''
    fi
    for word; do
        [ "$word" = "$key" ] || line="$line $word"
    done
    mkdir -p /etc/apt/sources.list.d
    printf 'deb%s%s\\n' "${ring:+ [signed-by=$ring]}" "$line" > "/etc/apt/sources.list.d/$file.list"
}
# URL of the repository or of its .repo file [URL of the key]
add_to_dnf() {
    mkdir -p /etc/yum.repos.d
    case $1 in
        *.repo) fetch "$1" "/etc/yum.repos.d/$file.repo" ;;
        *)
            printf '[%s]\\nname=%s\\nbaseurl=%s\\nenabled=1\\ngpgcheck=%s\\n' "$file" "$name" "$1" "$((${2:+1} + 0))" \\
                > "/etc/yum.repos.d/$file.repo"
            [ -z "${2-}" ] || printf 'gpgkey=%s\\n' "$2" >> "/etc/yum.repos.d/$file.repo"
            ;;
    esac
}
# URL[#id of the key]
add_to_pacman() {
    level='Optional TrustAll'
    case $1 in
        *'#'*)
            level='Required DatabaseOptional'
            pacman-key --recv-keys "${1#*#}"
            pacman-key --lsign-key "${1#*#}"
            ;;
    esac
    printf '\\n[%s]\\nSigLevel = %s\\nServer = %s\\n' "$file" "$level" "${1%%#*}" >> /etc/pacman.conf
}
"""

_INSTALL = """
command -v bash > /dev/null 2>&1 || set -- bash "$@"
[ $# = 0 ] || install "$@"
"""
