#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Runs the tests of optee-proto and mediator under Miri, an interpreter that finds undefined behaviour and
# data races, with fewer cases and smaller buffers than on the processor. Miri is a component of nightly
# Rust: rustup installs it when it is missing, and this says so first.
#
# make miri runs it; `sh mediator/miri.sh` does the same. Arguments are filters: `sh mediator/miri.sh fid_`.
set -eu
cd "$(dirname "$0")/.."
PATH="$HOME/.cargo/bin:$PATH"
LOG=out/logs/miri.log

say() { printf '%s\n' "$*" >&2; }
die() {
    say "$*"
    exit 1
}
there() { RUSTUP_AUTO_INSTALL=0 cargo +nightly miri --version > /dev/null 2>&1; }

if ! there; then
    command -v rustup > /dev/null 2>&1 ||
        die "Miri comes with nightly Rust, which rustup installs, and there is no rustup. Install it (https://rustup.rs), and run make miri again."
    say "This machine lacks Miri. Installing nightly Rust with it:"
    say "  rustup toolchain install nightly --profile minimal --component miri --component rust-src"
    rustup toolchain install nightly --profile minimal --no-self-update --component miri --component rust-src ||
        die "rustup could not install it. Not every nightly has Miri, and it needs the network; try again, or on another day."
    there || die "Miri still does not run. Try: cargo +nightly miri --version"
fi

miri() { cargo +nightly miri test --quiet --lib "$@"; }

if [ $# -gt 0 ]; then
    miri --package optee-proto --package optee-mediator -- "$@"
    exit
fi

# Miri uses one processor, so two run, with half of the work each.
SOME='tests::abi:: tests::properties:: tests::lists::'
mkdir -p "$(dirname "$LOG")"
miri --package optee-proto --package optee-mediator --no-run
# shellcheck disable=SC2046,SC2086
miri --package optee-proto --package optee-mediator -- $(printf -- '--skip %s ' $SOME) > "$LOG" 2>&1 &
others=$!
trap 'kill $others 2> /dev/null || true' EXIT INT TERM
status=0
# shellcheck disable=SC2086
miri --package optee-mediator -- $SOME || status=1
wait $others || status=1
trap - EXIT INT TERM
cat "$LOG"
[ $status = 0 ] || die "FAIL: the tests under Miri"
say "PASS: the tests under Miri"
