#!/bin/sh
# Installs the programs that some tests need: as root on Debian by apt-get; elsewhere it only says what is missing.
# Tests whose parts are missing are skipped and counted, or fail where BUILDYARD_REQUIRE=all.
set -eu

missing=
packages=
need() { # need PROGRAM PACKAGE
    if ! command -v "$1" >/dev/null; then
        missing="$missing $1"
        packages="$packages $2"
    fi
}
need git git
need bwrap bubblewrap
need slirp4netns slirp4netns
need setpriv util-linux
need curl curl
need openssl openssl
need gpg gpg
need ssh openssh-client
need sshd openssh-server
need ninja ninja-build
need cc gcc
need socat socat
need ip iproute2
need faketime faketime
need podman podman
need runc runc
need conmon conmon
need netavark netavark
need mmdebstrap mmdebstrap
need docker-registry docker-registry

[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing$packages"
    # shellcheck disable=SC2086 # one word for each package
    if { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages; } >/dev/null 2>&1; then
        exit 0
    fi
    echo "apt-get could not install$packages" >&2
fi
count=$(echo "$missing" | wc -w)
echo "$count programs are missing:$missing (Debian: apt-get install$packages); tests that need them are skipped" >&2
[ "${BUILDYARD_REQUIRE:-}" != all ] || exit 1
