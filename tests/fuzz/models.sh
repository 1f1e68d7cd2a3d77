#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Runs the models of concurrency: what vCPUs share in the mediator under shuttle, what pCPUs share without a lock in the
# hypervisor under loom. They are compiled with a cfg of their own, hence into a folder of their own.
#
# Exit code: 0 if all hold.
set -eu
cd "$(dirname "$0")/../.."
PATH="$HOME/.cargo/bin:$PATH"

status=0
RUSTFLAGS='--cfg shuttle' cargo test --quiet --package optee-mediator --package hypervisor --lib --target-dir target/models models || status=1
RUSTFLAGS='--cfg loom' cargo test --quiet --package hypervisor --lib --target-dir target/models models || status=1
if [ $status -eq 0 ]; then echo 'PASS: all models hold'; else echo 'FAIL: a model does not hold; see the output above'; fi
exit $status
