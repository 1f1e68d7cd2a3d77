# SPDX-License-Identifier: Apache-2.0 OR MIT
# Postern's commands. `make help` lists them; the host tool (qemu/) does the work.

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
export POSTERN_TEST_BOARD := $(BOARD)
export POSTERN_TEST_ABI := $(ABI)

CARGO_TOOL := --profile host --package postern-qemu --bin postern-tool
# Makes the tool's errors say GUESTS=4 instead of --guests. Only the tool's: the tests run it both ways.
TOOL := @POSTERN_MAKE=1 cargo run --quiet $(CARGO_TOOL) --
# A user's value reaches the tool unchanged, with its quotes and blanks.
quote = '$(subst ','\'',$(1))'
option = $(if $(2),$(1)=$(call quote,$(2)))
DESCRIPTION = $(call option,--suite,$(SUITE)) $(call option,--config,$(CONFIG)) $(call option,--board,$(BOARD)) $(call option,--abi,$(ABI)) $(call option,--guests,$(GUESTS))

# Without this check a misspelt variable would be ignored silently.
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
TEXT := $(if $(GIVEN),$(shell cat $(firstword $(MAKEFILE_LIST)) */*.sh */*/*.sh))
known = $(foreach use,$$($(1)) $(1)= {$(1):,$(findstring $(use),$(TEXT)))
$(foreach name,$(filter-out MAKEFLAGS,$(GIVEN)),$(if $(strip $(call known,$(name))),,$(error $(name)=$($(name)): there is no variable $(name); `make help` lists them)))
# Tests run under nextest if it is installed, otherwise under cargo; both run all of them.
NEXTEST := $(shell PATH="$(PATH)" command -v cargo-nextest)

# On other boards than virt these would measure or compare what is virt's.
ifneq ($(filter-out virt,$(BOARD)),)
$(foreach goal,$(filter test test-host test-qemu test-cpus test-mutants mutants optee-facts bench-check bench-profile bench-linux ci bundle dist,$(MAKECMDGOALS)),$(error BOARD=$(BOARD): `make $(goal)` has no board to choose; run, run-native, shell, prepare, test-hostile, test-soak and bench have))
endif

# Their systems have the ABI that their descriptions name.
ifneq ($(ABI),)
$(foreach goal,$(filter-out run run-native shell prepare optee-facts bench bench-profile test-hostile test-soak,$(MAKECMDGOALS)),$(error ABI=$(ABI): `make $(goal)` has no ABI to choose; run, run-native, shell, prepare, test-hostile, test-soak, optee-facts, bench and bench-profile have))
endif

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup setup-ci tool prepare run run-native ctl shell test test-host test-qemu test-hostile test-cpus test-soak miri fuzz mutants test-mutants test-models optee-facts bench bench-check bench-profile bench-linux lint doc spell package deny ci bundle dist clean distclean

help: ## Print this list
	@echo 'make TARGET [NAME=VALUE]...'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo 'Values'
	@echo '  XTEST=default   a few minutes of xtest; XTEST=all: all of regression and pkcs11;'
	@echo "                  or xtest's own words, such as XTEST='-t regression 1001'"
	@echo '  SUITE=trixie    Debian suite of OP-TEE and Linux; SUITE=sid has the newest versions'
	@echo '  CONFIG=guests/two.toml   the system description: machine and VMs'
	@echo '  BOARD=virt      the board that QEMU emulates, for run, run-native, shell, prepare, test-hostile, test-soak'
	@echo '                  and bench: virt, virt-gicv2, zcu102, imx8mp-evk (docs/configuration.md)'
	@echo '  ABI=smc         the ABI of OP-TEE, for run, run-native, shell, prepare, test-hostile, test-soak,'
	@echo '                  optee-facts, bench, bench-profile: smc, or ffa on the board virt'
	@echo '  GUESTS=4        number of Linux guests, 1 to 8; from 3 on OP-TEE is built for them (minutes)'
	@echo "  OPTEE_SRC=DIR   your own source tree of OP-TEE, instead of Debian's"
	@echo '  SYSTEM=run      for ctl, when several systems run: the folder below out/ of one of them'
	@echo '  OUT=out/run     folder of logs and report; a second system at the same time needs another one'
	@echo '  SECONDS=60      time for each target of `make fuzz`'
	@echo '  MIRROR=ADDRESS  Debian mirror, when the apt sources of this machine name none'
	@echo '  ATTACKS="3 17"  numbers of the attacks of test-hostile; all by default'
	@echo '  COUNTED=1       test-hostile and test-soak on one CPU where QEMU counts instructions: EL2 must not mask'
	@echo '                  interrupts for 0.5 ms there'
	@echo "  BOARD_DTB=FILE  the device tree of a board, for bundle; BUNDLE='...': its other options (docs/porting.md)"
	@echo '  HYPERVISOR=FILE another hypervisor for bench: an arm64 Image that takes modules like Xen'
	@echo '  UPDATE=1        ask Debian for newer parts than those in .cache/'

run: tool ## Boot two Linux guests that share one OP-TEE, run xtest in both at once, report
	$(TOOL) run $(DESCRIPTION) $(call option,--xtest,$(XTEST)) $(call option,--out,$(OUT))

run-native: tool ## Run the same guest image on the bare machine, without the hypervisor, for comparison
	$(TOOL) run-native $(DESCRIPTION) $(call option,--xtest,$(XTEST)) $(call option,--out,$(OUT))

ctl: tool ## Send a command to the monitor of a running system: make ctl CMD="vm list"
	$(TOOL) ctl $(call option,--system,$(SYSTEM)) $(call quote,$(CMD))

shell: tool ## Boot the same system with its consoles on this terminal
	$(TOOL) shell $(DESCRIPTION) $(call option,--out,$(OUT))

test: test-host test-mutants test-qemu bench-check ## Run all tests: on the host, a sample of mutants, scenarios in QEMU, the cost of calls
	@echo 'PASS: host tests, scenarios, no new surviving mutant, no call costs more; logs are in out/tests'

# Examples in documents are the one kind of test that nextest does not run.
test-host: setup ## Run the tests that need no emulator
	cargo test --quiet --doc $$(sh .ci/packages.sh published) --all-features
ifneq ($(NEXTEST),)
	cargo nextest run --workspace --exclude postern-tests
else
	@echo 'cargo-nextest is not installed; cargo runs the same tests'
	cargo test --workspace --exclude postern-tests --lib --bins --tests
endif

test-qemu: tool prepare ## Run the scenarios: real firmware, OP-TEE and guests in QEMU
ifneq ($(NEXTEST),)
	cargo nextest run --cargo-profile host --package postern-tests
else
	cargo test --profile host --package postern-tests -- --test-threads=1
endif

test-hostile: tool prepare ## Let a guest play 82 attacks beside one that works; make test plays some of them
	POSTERN_TEST_SUITE=$(SUITE) cargo run --profile host --package postern-tests --bin hostile -- $(if $(COUNTED),counted) $(ATTACKS)

test-cpus: tool prepare ## Scan all system registers and run some xtest, on each CPU model or CPUS="max"; may fetch QEMU
	cargo run --profile host --package postern-tests --bin scan -- $(CPUS)

# It prepares its machine itself, after it has checked N.
test-soak: tool ## Start and end a VM N=100 times, with ABI=ffa 10, in all states, beside working guests; SEED=1 repeats an order
	cargo run --profile host --package postern-tests --bin soak -- $(if $(COUNTED),counted) $(or $(N),default) $(SEED)

miri: setup ## Run the mediator's host tests under Miri, an interpreter that finds undefined behaviour (minutes)
	@sh mediator/miri.sh

fuzz: setup ## Fuzz each target for SECONDS=60 seconds; COVERAGE=1 counts lines as well
	@sh tests/fuzz/run.sh $(SECONDS)

mutants: setup ## Change the product line by line and check that host tests fail (hours); AREAS="vgic trap": only these
	@RUST_BACKTRACE=0 cargo run --quiet --profile host --package postern-tests --bin mutants -- $(AREAS)

test-mutants: setup ## Try a fixed sample of the mutants (minutes)
	@RUST_BACKTRACE=0 cargo run --quiet --profile host --package postern-tests --bin mutants -- sample $(AREAS)

test-models: setup ## Check the models of concurrency, in all orders of several CPUs' steps
	@sh tests/fuzz/models.sh

optee-facts: tool prepare ## Check beliefs about OP-TEE against the real one: docs/optee-facts.md
	@cargo run --quiet --profile host --package postern-tests --bin optee-facts

bench: tool prepare ## Measure calls in instructions: bare machine, Postern, HYPERVISOR=FILE; BASELINE=update stores the figures
	@cargo run --quiet --profile host --package postern-tests --bin bench -- $(if $(HYPERVISOR),hypervisor=$(HYPERVISOR)) $(filter update,$(BASELINE))

bench-check: tool prepare ## Fail if calls cost over 2 % more instructions than in tests/bench-baseline.json
	@cargo run --quiet --profile host --package postern-tests --bin bench -- check

bench-profile: tool prepare ## List the instructions of calls by function; CALLS="invoke calls-uid": only these calls
	@cargo run --quiet --profile host --package postern-tests --bin bench -- profile $(CALLS) $(filter update,$(BASELINE))

bench-linux: tool ## Measure calls from Linux: alone, beside other guests, and in SMCs
	@cargo run --quiet --profile host --package postern-tests --bin bench-linux

setup-ci:
	@sh qemu/setup.sh ci

lint: setup-ci ## Check formatting and clippy, for the host, EL2, guests and the fuzzers
	cargo fmt --all --check
	cd tests/fuzz && cargo fmt --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy $$(sh .ci/packages.sh bare) --target aarch64-unknown-none-softfloat --release -- -D warnings
	cargo clippy $$(sh .ci/packages.sh linux) --target aarch64-unknown-linux-musl --release -- -D warnings
	cargo clippy --manifest-path tests/fuzz/Cargo.toml --target-dir target/fuzz-lint --all-targets -- -D warnings

doc: setup ## Build the crates' documents in target/doc; a warning is an error
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps $$(sh .ci/packages.sh programs)
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps $$(sh .ci/packages.sh bare) --target aarch64-unknown-none-softfloat --release

spell: setup ## Check the spelling of all text
	@sh .ci/tools.sh typos
	typos

bundle: tool ## Make what U-Boot boots on a board: make bundle BOARD_DTB=FILE CONFIG=FILE OUT=DIR [BUNDLE='--load tftp']
	@$(if $(BOARD_DTB),,echo 'BOARD_DTB=FILE is missing: the device tree that Linux boots with on the board' >&2; exit 2)
	$(TOOL) bundle $(call option,--board-dtb,$(BOARD_DTB)) $(call option,--config,$(CONFIG)) $(call option,--suite,$(SUITE)) --out=$(call quote,$(or $(OUT),out/bundle)) $(BUNDLE)

dist: tool ## Build a release in out/dist: image, ELF file, host tool, SBOMs, checksums
	$(TOOL) dist $(call option,--out,$(OUT))

package: setup ## Check that the published crates pack and build as on crates.io
	cargo publish --dry-run --allow-dirty $$(sh .ci/packages.sh published)

deny: setup ## Check licences, sources and vulnerabilities of dependencies; ADVISORIES=required: fail without advisories
	@sh .ci/deny.sh $(ADVISORIES)

ci: lint doc spell package deny test ## Run everything that continuous integration runs
	@echo 'PASS: make ci'

prepare: tool ## Fetch and build what `run` needs, without starting it
	$(TOOL) prepare $(DESCRIPTION)

setup: ## Install what the build needs and this machine lacks
	@sh qemu/setup.sh

# Built with cargo's messages, because the first build takes minutes.
tool: setup
	@cargo build $(CARGO_TOOL)

clean: ## Remove everything that was built; downloads stay
	rm -rf out target

distclean: clean ## Remove downloads, too
	rm -rf .cache
