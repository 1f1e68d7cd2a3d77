# SPDX-License-Identifier: Apache-2.0 OR MIT
# Postern's commands. `make help` tells them; the work is done by the host tool (qemu/).

SUITE ?= trixie
XTEST ?= default
CONFIG ?= guests/two.toml
SECONDS ?= 60
CMD ?= help

# Where qemu/setup.sh puts Rust when the machine has none.
export PATH := $(HOME)/.cargo/bin:$(PATH)
export POSTERN_MIRROR := $(MIRROR)
export POSTERN_UPDATE := $(UPDATE)
export POSTERN_OPTEE_SRC := $(OPTEE_SRC)

CARGO_TOOL := --profile host --package postern-qemu --bin postern-tool
# The tool's errors speak of GUESTS=4 then, and not of --guests. Only the tool's: tests run it both ways.
TOOL := @POSTERN_MAKE=1 cargo run --quiet $(CARGO_TOOL) --
# What a user gives reaches the tool as it is, quotes, blanks and all.
quote = '$(subst ','\'',$(1))'
option = $(if $(2),$(1)=$(call quote,$(2)))
DESCRIPTION = $(call option,--suite,$(SUITE)) $(call option,--config,$(CONFIG)) $(call option,--guests,$(GUESTS))

# A value that is misspelt would change nothing and say nothing.
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
TEXT := $(if $(GIVEN),$(shell cat $(firstword $(MAKEFILE_LIST)) */*.sh */*/*.sh))
known = $(foreach use,$$($(1)) $(1)= {$(1):,$(findstring $(use),$(TEXT)))
$(foreach name,$(filter-out MAKEFLAGS,$(GIVEN)),$(if $(strip $(call known,$(name))),,$(error $(name)=$($(name)): there is no variable $(name); `make help` lists them)))
# Tests run under nextest where it is, else under cargo itself; both run all of them.
NEXTEST := $(shell PATH="$(PATH)" command -v cargo-nextest)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup setup-ci tool prepare run run-native ctl shell test test-host test-qemu test-hostile test-cpus test-soak miri fuzz mutants test-mutants test-models optee-facts bench bench-check bench-profile bench-linux lint doc spell package deny ci dist clean distclean

help: ## This list
	@echo 'make TARGET [NAME=VALUE]...'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo 'Values'
	@echo '  XTEST=default   a few minutes of xtest; XTEST=all: regression and pkcs11 whole;'
	@echo "                  or xtest's own words, such as XTEST='-t regression 1001'"
	@echo '  SUITE=trixie    Debian suite of OP-TEE and Linux; SUITE=sid has the newest'
	@echo '  CONFIG=guests/two.toml   which VMs there are'
	@echo '  GUESTS=4        so many Linux guests, 1 to 8; from 3 on OP-TEE is built for them (minutes)'
	@echo "  OPTEE_SRC=DIR   OP-TEE is built from your own source tree instead of Debian's"
	@echo '  SYSTEM=run      for ctl, when several systems run: the folder below out/'
	@echo '  OUT=out/run     where run and shell put logs and report; another one for a second system at once'
	@echo '  SECONDS=60      how long `make fuzz` takes for each target'
	@echo '  MIRROR=ADDRESS  a Debian mirror, when the apt sources of this machine name none'
	@echo '  ATTACKS="3 17"  the attacks of test-hostile; all of them by default'
	@echo '  COUNTED=1       test-hostile and test-soak on one CPU where QEMU counts instructions: EL2 may keep'
	@echo '                  no interrupt waiting for 0.5 ms there'
	@echo '  HYPERVISOR=FILE another hypervisor for bench: an arm64 Image that takes modules as Xen does'
	@echo '  UPDATE=1        ask Debian for newer parts than those in .cache/'

run: tool ## Boot two Linux guests that share one OP-TEE, run xtest in both at once, report
	$(TOOL) run $(DESCRIPTION) $(call option,--xtest,$(XTEST)) $(call option,--out,$(OUT))

run-native: tool ## The same guest image on the bare machine, without the hypervisor, to compare with
	$(TOOL) run-native $(DESCRIPTION) $(call option,--xtest,$(XTEST)) $(call option,--out,$(OUT))

ctl: tool ## A command for the monitor of a system that runs: make ctl CMD="vm list"
	$(TOOL) ctl $(call option,--system,$(SYSTEM)) $(call quote,$(CMD))

shell: tool ## Boot the same system and give its consoles to this terminal
	$(TOOL) shell $(DESCRIPTION) $(call option,--out,$(OUT))

test: test-host test-mutants test-qemu bench-check ## All tests: on the host, a sample of mutants, scenarios in QEMU, what calls cost
	@echo 'PASS: all host tests, all scenarios, no mutant that is new, and no call costs more; logs are in out/tests'

# Examples in documents are the one kind of test that nextest does not run.
test-host: setup ## The tests that need no emulator
	cargo test --quiet --doc $$(sh .ci/packages.sh published) --all-features
ifneq ($(NEXTEST),)
	cargo nextest run --workspace --exclude postern-tests
else
	@echo 'cargo-nextest is not installed; cargo runs the same tests'
	cargo test --workspace --exclude postern-tests --lib --bins --tests
endif

test-qemu: tool prepare ## The scenarios: real firmware, OP-TEE and guests in QEMU
ifneq ($(NEXTEST),)
	cargo nextest run --cargo-profile host --package postern-tests
else
	cargo test --profile host --package postern-tests -- --test-threads=1
endif

test-hostile: tool prepare ## A guest that plays 68 attacks beside one that works; make test plays some of them
	POSTERN_TEST_SUITE=$(SUITE) cargo run --profile host --package postern-tests --bin hostile -- $(if $(COUNTED),counted) $(ATTACKS)

test-cpus: tool prepare ## Two VMs scan all system registers, two run a case of xtest, on each CPU model or on CPUS="max"; may fetch QEMU
	cargo run --profile host --package postern-tests --bin scan -- $(CPUS)

test-soak: tool prepare ## Start and end a VM N=100 times, in any state, beside guests at work; SEED=1 repeats an order
	cargo run --profile host --package postern-tests --bin soak -- $(if $(COUNTED),counted) $(or $(N),100) $(SEED)

miri: setup ## The host tests of the mediator under Miri, an interpreter that finds undefined behaviour (minutes)
	@sh mediator/miri.sh

fuzz: setup ## Fuzz each target for SECONDS=60 seconds; COVERAGE=1 counts lines as well
	@sh tests/fuzz/run.sh $(SECONDS)

mutants: setup ## Change the product line by line and see what the host tests notice (hours); AREAS="vgic trap": of these only
	@RUST_BACKTRACE=0 cargo run --quiet --profile host --package postern-tests --bin mutants -- $(AREAS)

test-mutants: setup ## A fixed sample of that, as a quick look (minutes)
	@RUST_BACKTRACE=0 cargo run --quiet --profile host --package postern-tests --bin mutants -- sample $(AREAS)

test-models: setup ## Try what several CPUs can do to each other, order by order
	@sh tests/fuzz/models.sh

optee-facts: tool prepare ## Ask the real OP-TEE what its sources only suggest: docs/optee-facts.md
	@cargo run --quiet --profile host --package postern-tests --bin optee-facts

bench: tool prepare ## What calls cost in instructions, on the bare machine, under Postern and under HYPERVISOR=FILE; BASELINE=update keeps it
	@cargo run --quiet --profile host --package postern-tests --bin bench -- $(if $(HYPERVISOR),hypervisor=$(HYPERVISOR)) $(filter update,$(BASELINE))

bench-check: tool prepare ## Whether calls cost more instructions than tests/bench-baseline.json says, by more than 2 %
	@cargo run --quiet --profile host --package postern-tests --bin bench -- check

bench-profile: tool prepare ## Where the instructions of calls go, by function; CALLS="invoke calls-uid": of these calls only
	@cargo run --quiet --profile host --package postern-tests --bin bench -- profile $(CALLS) $(filter update,$(BASELINE))

bench-linux: tool ## What calls cost seen from Linux: alone, with other guests at it, and in SMCs
	@cargo run --quiet --profile host --package postern-tests --bin bench-linux

setup-ci:
	@sh qemu/setup.sh ci

lint: setup-ci ## Formatting and clippy, for the host, EL2, guests and the fuzzers
	cargo fmt --all --check
	cd tests/fuzz && cargo fmt --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy $$(sh .ci/packages.sh bare) --target aarch64-unknown-none-softfloat --release -- -D warnings
	cargo clippy $$(sh .ci/packages.sh linux) --target aarch64-unknown-linux-musl --release -- -D warnings
	cargo clippy --manifest-path tests/fuzz/Cargo.toml --target-dir target/fuzz-lint --all-targets -- -D warnings

doc: setup ## The crates' documents, in target/doc; a warning is an error
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps $$(sh .ci/packages.sh programs)
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps $$(sh .ci/packages.sh bare) --target aarch64-unknown-none-softfloat --release

spell: setup ## The spelling of all text
	@sh .ci/tools.sh typos
	typos

dist: tool ## What a release has, in out/dist: image, ELF file, host tool, lists of what is in them, checksums
	$(TOOL) dist $(call option,--out,$(OUT))

package: setup ## Whether the crates for others can be published: packed and built as crates.io would
	cargo publish --dry-run --allow-dirty $$(sh .ci/packages.sh published)

deny: setup ## Licences, sources and known vulnerabilities of dependencies; ADVISORIES=required where those must be known
	@sh .ci/deny.sh $(ADVISORIES)

ci: lint doc spell package deny test ## What continuous integration runs, all of it
	@echo 'PASS: make ci'

prepare: tool ## Fetch and build what `run` needs, and start nothing
	$(TOOL) prepare $(DESCRIPTION)

setup: ## Install what the build needs and this machine lacks
	@sh qemu/setup.sh

# Built with cargo's messages on: the first time takes minutes.
tool: setup
	@cargo build $(CARGO_TOOL)

clean: ## Remove what was built; downloads stay
	rm -rf out target

distclean: clean ## Remove downloads too
	rm -rf .cache
