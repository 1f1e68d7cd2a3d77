#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Checks all dependencies against deny.toml: licences, sources, versions, and RustSec's advisories. The database of
# advisories is fetched into .cache/. Where it can neither be fetched nor is there already, everything else is
# checked, and the last line says that advisories were NOT.
#
#   sh .ci/deny.sh            `make deny` does the same
#   sh .ci/deny.sh required   fails without advisories, as a release needs
set -eu
cd "$(dirname "$0")/.."
PATH="$HOME/.cargo/bin:$PATH"
LOG=out/logs/deny.log

sh .ci/tools.sh cargo-deny
mkdir -p out/logs

# both COMMAND...: runs it for the two workspaces.
both() {
    for manifest in Cargo.toml tests/fuzz/Cargo.toml; do
        cargo deny --manifest-path "$manifest" "$@" || return 1
    done
}

for manifest in Cargo.toml tests/fuzz/Cargo.toml; do
    cargo fetch --quiet --manifest-path "$manifest"
done
# Checks that fetch nothing work without network. An entry of deny.toml may apply to only one workspace.
both --offline check --hide-inclusion-graph --allow license-exception-not-encountered --allow license-not-encountered bans licenses sources
if cargo deny fetch db > "$LOG" 2>&1; then
    both --offline check --hide-inclusion-graph advisories
    echo 'PASS: licences, sources and versions of all dependencies, and no advisory concerns them'
    exit
fi
if ls .cache/advisory-db/*/.git > /dev/null 2>&1; then
    # A copy that is older than deny.toml allows is refused, which a machine without network cannot change.
    if both --offline check --hide-inclusion-graph advisories > "$LOG" 2>&1; then
        echo 'PASS: licences, sources and versions of all dependencies, and no advisory in the copy of .cache/advisory-db'
        exit
    elif ! grep -q -i 'repository is stale' "$LOG"; then
        cat "$LOG" >&2
        exit 1
    fi
fi
echo 'PASS: licences, sources and versions of all dependencies'
echo 'NOT CHECKED: advisories. The database of RustSec could not be fetched, and no recent copy is in .cache/advisory-db'
[ "${1-}" != required ]
