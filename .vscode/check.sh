#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# What rust-analyzer runs when a file is saved: clippy for the host and for EL2. Other editors can run it, too.
cd "$(dirname "$0")/.." || exit
cargo clippy --quiet --workspace --all-targets --keep-going --message-format=json
# shellcheck disable=SC2046
exec cargo clippy --quiet $(sh .ci/packages.sh bare) --target aarch64-unknown-none-softfloat --keep-going --message-format=json
