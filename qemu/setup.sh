#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Installs what Postern's build needs and this machine lacks: Debian packages by apt (as root or through
# sudo) and the Rust toolchain that rust-toolchain.toml names. Says first what it will do. When nothing
# is missing it prints nothing, changes nothing and needs no network.
#
# make runs it before everything else; `sh qemu/setup.sh` does the same. `sh qemu/setup.sh optee` also
# installs what a build of OP-TEE needs; the host tool runs that before one. `sh qemu/setup.sh ci` also installs what
# `make lint` needs.
set -eu
cd "$(dirname "$0")/.."
PATH="$HOME/.cargo/bin:$PATH"
LOG=out/logs/setup.log

say() { printf '%s\n' "$*" >&2; }
die() {
    say "$*"
    exit 1
}
have() { command -v "$1" > /dev/null 2>&1; }

# loudly WHAT COMMAND...: runs it with its output in the log, and reports every ten seconds that it still runs.
loudly() {
    what=$1
    shift
    mkdir -p "$(dirname "$LOG")"
    say "  $what"
    (
        passed=0
        while sleep 10; do
            passed=$((passed + 10))
            say "  $what, $passed s"
        done
    ) &
    ticker=$!
    trap 'kill $ticker 2> /dev/null' EXIT
    if "$@" >> "$LOG" 2>&1; then status=0; else status=$?; fi
    kill $ticker 2> /dev/null || true
    wait $ticker 2> /dev/null || true
    trap - EXIT
    return $status
}

# The requirements: a test, the package that provides it, and its purpose.
packages=
reasons=
need() {
    packages="$packages $1"
    reasons="$reasons
    $1: $2"
}
have qemu-system-aarch64 || need qemu-system-arm "the emulated machine"
have make || need make "builds TF-A"
have gcc || need gcc "builds TF-A's tools, links Rust programs"
[ -e /usr/include/stdio.h ] || need libc6-dev "the C library of these programs"
[ -e /usr/include/openssl/sha.h ] || need libssl-dev "builds TF-A's tools"
if ! have aarch64-linux-gnu-gcc && [ "$(uname -m)" != aarch64 ]; then
    need gcc-aarch64-linux-gnu "compiles TF-A"
fi
if ! [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] &&
    ! [ -e /usr/share/keyrings/debian-archive-keyring.pgp ]; then
    need debian-archive-keyring "checks Debian's signatures"
fi

have mke2fs || [ -x /usr/sbin/mke2fs ] || [ -x /sbin/mke2fs ] || need e2fsprogs "makes the disk that scenarios boot from"

if [ "${1-}" = ci ]; then
    have c++ || need g++ "compiles libFuzzer, which the fuzzers are checked with"
fi

if [ "${1-}" = optee ]; then
    # OP-TEE's scripts run under Debian's Python, for whose modules there are packages.
    python=/usr/bin/python3
    [ -x $python ] || need python3 "runs scripts of OP-TEE's build"
    $python -c 'import elftools' 2> /dev/null || need python3-pyelftools "builds OP-TEE"
    $python -c 'import cryptography' 2> /dev/null || need python3-cryptography "builds OP-TEE"
    have dtc || need device-tree-compiler "builds OP-TEE"
    have patch || need patch "applies Debian's patches to OP-TEE"
fi

# The toolchain, its components and its targets, as rust-toolchain.toml names them.
toml() { sed -n "s/^$1 = //p" rust-toolchain.toml | tr -d '[]",'; }
channel=$(toml channel)
components=$(toml components)
targets=$(toml targets)

rust_is_there() {
    have cargo && have rustc || return 1
    if have rustup; then
        rustup toolchain list 2> /dev/null | grep -q "^$channel" || return 1
    fi
    for target in $targets; do
        folder=$(RUSTUP_AUTO_INSTALL=0 rustc --print target-libdir --target "$target" 2> /dev/null) || return 1
        [ -d "$folder" ] || return 1
    done
}

rustup_comes_from=
if ! rust_is_there && ! have rustup; then
    # Debian has it from 13 on, but there it would push out a cargo that came by apt.
    # shellcheck disable=SC1091
    system=$(. /etc/os-release 2> /dev/null && echo "${ID-}${VERSION_ID-}")
    case $system in
    debian1[0-2] | debian[1-9]) in_debian=no ;;
    debian*) in_debian=yes ;;
    *) in_debian=no ;;
    esac
    if ! have cargo && [ $in_debian = yes ]; then
        rustup_comes_from=apt
        need rustup "installs Rust $channel"
    else
        rustup_comes_from=web
        have curl || need curl "fetches rustup"
        [ -e /etc/ssl/certs/ca-certificates.crt ] || need ca-certificates "fetches rustup"
    fi
fi

if [ -n "$packages" ]; then
    command="apt-get install --no-install-recommends$packages"
    say "This machine lacks:$reasons"
    have apt-get || die "Install these, or what your system calls them, and run make again."
    if [ "$(id -u)" = 0 ]; then
        as_root() { env DEBIAN_FRONTEND=noninteractive "$@"; }
    elif have sudo; then
        say "Installing them with: sudo $command"
        # Asks for the password now, where it can be seen.
        sudo -v || die "Install them as root, and run make again: $command"
        as_root() { sudo env DEBIAN_FRONTEND=noninteractive "$@"; }
    else
        die "Install them as root, and run make again: $command"
    fi
    loudly "Reading the package lists" as_root apt-get -q update ||
        say "  Some package lists could not be read (see $LOG); continuing."
    # shellcheck disable=SC2086
    loudly "Installing$packages" as_root apt-get -q -y install --no-install-recommends $packages || {
        tail -n 15 "$LOG" >&2
        die "apt could not install them; its output is in $LOG."
    }
fi

if ! rust_is_there; then
    say "This machine lacks Rust $channel for: this machine, $(echo "$targets" | sed 's/ /, /g')"
    if [ "$rustup_comes_from" = web ]; then
        say "Installing rustup into $HOME/.cargo with its official installer, https://sh.rustup.rs"
        installer=$(mktemp)
        trap 'rm -f "$installer"' EXIT
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs -o "$installer" ||
            die "rustup's installer cannot be fetched. Install rustup by hand, and run make again."
        loudly "Installing rustup" env RUSTUP_INIT_SKIP_PATH_CHECK=yes \
            sh "$installer" -y --default-toolchain none --profile minimal --no-modify-path ||
            die "rustup cannot be installed; see $LOG."
        rm -f "$installer"
        trap - EXIT
    fi
    have rustup || die "There is no rustup to install it. Install rustup by hand, and run make again."
    set --
    for component in $components; do set -- "$@" --component "$component"; done
    for target in $targets; do set -- "$@" --target "$target"; done
    loudly "Installing Rust $channel" \
        rustup toolchain install "$channel" --profile minimal --no-self-update "$@" || {
        tail -n 15 "$LOG" >&2
        die "rustup could not install it; its output is in $LOG."
    }
    rust_is_there || die "Rust $channel is still not complete. Try: rustup toolchain install $channel"
fi
