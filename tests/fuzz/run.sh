#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Fuzzes one target after the other and prints the results. docs/fuzzing.md has more.
#
#   sh tests/fuzz/run.sh [SECONDS]     each target for that long, 60 by default; `make fuzz SECONDS=60` does the same
#   sh tests/fuzz/run.sh --minimise    copies inputs of earlier runs that cover more to tests/fuzz/corpus/
#
# TARGETS='message devices' in the environment selects targets. COVERAGE=1 counts the covered lines as
# well, which takes another build and rustup's component llvm-tools.
#
# Exit code: 0 if nothing was found, 1 if something was, 2 if a target could not be run.
set -eu
cd "$(dirname "$0")/../.."
PATH="$HOME/.cargo/bin:$PATH"
CARGO_FUZZ=0.13.2

say() { printf '%s\n' "$*"; }

if ! cargo fuzz --version > /dev/null 2>&1; then
    say "cargo-fuzz is not installed. Running: cargo install cargo-fuzz --version $CARGO_FUZZ --locked"
    cargo install --quiet cargo-fuzz --version $CARGO_FUZZ --locked || exit 2
fi
if ! command -v c++ > /dev/null 2>&1; then
    say "A C++ compiler is missing, which builds libFuzzer. On Debian: apt install g++"
    exit 2
fi

mode=fuzz
seconds=60
case ${1:-} in
--minimise) mode=minimise ;;
'') ;;
*[!0-9]*)
    say "usage: tests/fuzz/run.sh [SECONDS | --minimise]"
    exit 2
    ;;
*) seconds=$1 ;;
esac
targets=${TARGETS:-$(cargo fuzz list --fuzz-dir tests/fuzz)}
host=$(rustc -vV | sed -n 's/^host: //p')
built=target/fuzz/$host/release

llvm_cov=$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-cov
if [ -n "${COVERAGE:-}" ] && ! [ -x "$llvm_cov" ]; then
    say "This machine lacks llvm-tools, which count lines. Running: rustup component add llvm-tools"
    rustup component add llvm-tools || exit 2
fi

# No sanitizer: the fuzzed code has no unsafe code, so the pinned stable toolchain suffices. Overflow checks and
# debug assertions are on.
say "Building the targets"
mkdir -p out/fuzz
if ! cargo fuzz build --fuzz-dir tests/fuzz --sanitizer none --target-dir target/fuzz > out/fuzz/build.log 2>&1; then
    cat out/fuzz/build.log
    exit 2
fi

# The longest useful input in bytes.
longest() {
    case $1 in
    message) say 4096 ;;
    page_list) say 600 ;;
    ffa_registers) say 144 ;;
    ffa_*) say 700 ;;
    devices) say 3000 ;;
    boot_tree) say 4000 ;;
    *) say 1500 ;;
    esac
}

if [ $mode = minimise ]; then
    for target in $targets; do
        mkdir -p "out/fuzz/$target/corpus" "tests/fuzz/corpus/$target"
        new=out/fuzz/$target/minimised
        rm -rf "$new"
        mkdir "$new"
        # One input for each edge is enough to begin with; libFuzzer finds the rest again.
        "$built/$target" -merge=1 -use_counters=0 -max_len="$(longest "$target")" "$new" "tests/fuzz/corpus/$target" \
            "out/fuzz/$target/corpus" > "out/fuzz/$target/minimise.log" 2>&1 || exit 2
        rm -rf "tests/fuzz/corpus/$target"
        mv "$new" "tests/fuzz/corpus/$target"
        say "$target: $(find "tests/fuzz/corpus/$target" -type f | wc -l) inputs"
    done
    exit 0
fi

number() { sed -n "s/^stat::$1: *//p" "$log"; }
last() { grep -o "$1: [0-9]*" "$log" | tail -n 1 | tr -dc 0-9; }

# The source that a target covers.
sources() {
    case $1 in
    boot_tree) say hypervisor/boot-tree/src ;;
    rings) say hypervisor/virtio/src ;;
    ffa_*) say mediator/ffa-proto/src ;;
    devices) say hypervisor/devices/src hypervisor/vgic/src hypervisor/exceptions/src/decode.rs ;;
    *) say mediator/src ;;
    esac
}

# The number of those lines that the inputs cover, and their total.
lines() {
    cargo fuzz coverage --fuzz-dir tests/fuzz --sanitizer none --target-dir target/fuzz-coverage "$1" "out/fuzz/$1/corpus" \
        "tests/fuzz/corpus/$1" > "out/fuzz/$1/coverage.log" 2>&1 || return 0
    # shellcheck disable=SC2046
    "$llvm_cov" export --summary-only \
        --instr-profile="tests/fuzz/coverage/$1/coverage.profdata" --ignore-filename-regex='/mediator/src/fake/' \
        "target/fuzz-coverage/$host/release/$1" $(sources "$1") > "out/fuzz/$1/coverage.json" 2> /dev/null || return 0
    sed -n 's/.*"totals":.*"lines":{"count":\([0-9]*\),"covered":\([0-9]*\).*/\2 of \1/p' "out/fuzz/$1/coverage.json"
}

table="out/fuzz/table"
printf '%-14s %12s %8s %7s %8s %8s %13s  %s\n' target executions per-s edges features inputs lines verdict > $table
found=0
for target in $targets; do
    folder=out/fuzz/$target
    log=$folder/log
    mkdir -p "$folder/corpus" "$folder/found"
    say "$target: $seconds s"
    if "$built/$target" -max_total_time="$seconds" -max_len="$(longest "$target")" -timeout=10 -rss_limit_mb=2048 \
        -print_final_stats=1 -artifact_prefix="$folder/found/" "$folder/corpus" "tests/fuzz/corpus/$target" > "$log" 2>&1; then
        verdict=good
    else
        found=1
        verdict="FOUND: $(grep -o "$folder/found/.*" "$log" | tail -n 1)"
        grep -A 3 -e 'panicked at' -e '^SUMMARY' "$log" || tail -n 5 "$log"
    fi
    covered=-
    if [ -n "${COVERAGE:-}" ]; then covered=$(lines "$target"); fi
    printf '%-14s %12s %8s %7s %8s %8s %13s  %s\n' "$target" "$(number number_of_executed_units)" \
        "$(number average_exec_per_sec)" "$(last cov)" "$(last ft)" "$(find "$folder/corpus" "tests/fuzz/corpus/$target" -type f | wc -l)" \
        "${covered:--}" "$verdict" >> $table
done
cat $table
if [ $found -ne 0 ]; then
    say 'FAIL: reproduce a finding with: target/fuzz/HOST/release/TARGET FILE'
    exit 1
fi
say 'PASS: no target found an error'
