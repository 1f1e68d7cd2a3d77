#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Prints the packages of a kind as cargo's options, so that no list has to be maintained.
#
#   sh .ci/packages.sh bare      --package for each that also compiles without an operating system
#   sh .ci/packages.sh linux     --package for each program in a Linux guest
#   sh .ci/packages.sh programs  --exclude for each of those without code for the host
#   sh .ci/packages.sh published --package for each that is published on crates.io
set -eu
cd "$(dirname "$0")/.."

# list OPTION FILE...: the packages that the crates' roots belong to.
list() {
    option=$1
    shift
    for root in "$@"; do
        printf -- "$option %s " "$(sed -n 's/^name = "\(.*\)"/\1/p' "${root%/src/*}/Cargo.toml" | head -n 1)"
    done
}

roots=$(find . \( -path ./target -o -path ./out -o -path ./.cache \) -prune -o \
    \( -path '*/src/lib.rs' -o -path '*/src/main.rs' \) -print | sort)
# shellcheck disable=SC2046,SC2086
case $1 in
bare) list --package $(grep -l '^#!.*no_std' $roots) ;;
linux) list --package $(grep -L '^#!.*no_std' $roots | grep '^\./guests/.*main.rs') ;;
programs) list --exclude $(grep -lE '^#!\[(cfg_attr.*no_main|cfg\(target_os = "none"\))' $roots) ;;
published)
    for root in $roots; do
        if grep -q '^publish = true' "${root%/src/*}/Cargo.toml"; then list --package "$root"; fi
    done
    ;;
*) exit 2 ;;
esac
