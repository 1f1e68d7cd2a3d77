#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Installs the checkers that `make ci` needs besides what builds Postern, each in one version, into cargo's own
# folder, after it has printed what it will do. An installed one is left as it is: later runs need no network.
#
#   sh .ci/tools.sh cargo-deny typos
set -eu
cd "$(dirname "$0")/.."
PATH="$HOME/.cargo/bin:$PATH"

say() { printf '%s\n' "$*" >&2; }

for tool in "$@"; do
    case $tool in
    cargo-deny) package=cargo-deny version=0.20.2 ;;
    typos) package=typos-cli version=1.52.0 ;;
    *)
        say "$tool: unknown tool; this script installs cargo-deny and typos"
        exit 2
        ;;
    esac
    case $($tool --version 2> /dev/null) in *" $version") continue ;; esac
    say "This machine lacks $tool $version. Running, which takes minutes: cargo install $package --version $version --locked"
    # They check text: their speed does not matter, the time to compile them does.
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        cargo install --quiet $package --version $version --locked || {
        say "cargo could not install $tool; see its output above."
        exit 2
    }
done
