# What a person types. Each target installs or says what it lacks; `make test` and `make demo` need nothing but a Rust
# tool chain (rustup) and Debian packages.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Postgres with its client programs, and what librdkafka and OpenSSL are built with.
PACKAGES := postgresql postgresql-contrib build-essential libssl-dev zlib1g-dev pkg-config
# Checks deny.toml; its advisories need the network and are looked at by hand.
DENY_VERSION := 0.20.2
CORPUS_CASES ?= tests/corpus/cases
PYTHON = $(shell python3 tests/stack/dist.py venv)

.PHONY: help
help: ## what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.PHONY: packages
packages: # the missing Debian packages, where we may install them
	@missing=$$(for p in $(PACKAGES); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing:" $$missing; export DEBIAN_FRONTEND=noninteractive; \
	  { apt-get install -qq -y $$missing || { apt-get update -qq && apt-get install -qq -y $$missing; }; } >/dev/null; \
	else \
	  echo "please install:" $$missing "(apt-get install" $$missing")" >&2; \
	  [ -n "$$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null)" ] || exit 1; \
	fi

.PHONY: demo
demo: packages ## a small shop in a throw-away Postgres, its changes as they arrive; DEMO_SECONDS=20 ends it
	cargo build --release --locked
	target/release/wellspring demo

.PHONY: smoke
smoke: packages ## the demo for a few seconds, in the profile of the tests
	cargo build --locked --bins
	DEMO_SECONDS=$(or $(DEMO_SECONDS),15) target/debug/wellspring demo

.PHONY: test
test: packages ## every test that needs only Rust and Postgres packages
	# Twice as many tests at a time as cores: a test waits for servers most of its time.
	RUST_TEST_THREADS=$$((2 * $$(nproc))) cargo test --locked

.PHONY: test-majors
test-majors: packages ## the postgres room against Postgres 14 to 19: each type's copied bytes are its streamed ones
	for major in 14 15 16 17 18 19; do \
	  WELLSPRING_TEST_PG_BIN=$$(python3 tests/stack/dist.py postgres-$$major) \
	    cargo test --locked --test integration postgres_room:: || exit 1; \
	done

# The tests behind "what we notice" (docs/guarantees.md), by their paths.
NOTICED = watch:: detach::skip:: first_copy::faults:: truths::harm:: postgres_room::failover:: postgres_room::nineteen::

.PHONY: test-watch
test-watch: packages ## what we notice, against Postgres 15, 18 and 19; MAJORS="14 16" for others
	for major in $(or $(MAJORS),15 18 19); do \
	  WELLSPRING_TEST_PG_BIN=$$(python3 tests/stack/dist.py postgres-$$major) \
	    cargo test --locked --test integration -- $(NOTICED) || exit 1; \
	done

.PHONY: test-stack
test-stack: packages ## the program between real Postgres, Kafka and registry; FULL=1 at full length, ONLY=a,b PG=19 LANES=3
	cargo build --locked --bins --examples
	$(PYTHON) tests/stack/selftest.py
	$(PYTHON) tests/stack/run.py $(if $(ONLY),--only $(ONLY)) $(if $(FULL),--full) $(if $(PG),--pg $(PG)) $(if $(LANES),--lanes $(LANES))

.PHONY: corpus
corpus: packages ## equal to real Debezium: CASES=dir ONLY=a,b PG=19 KAFKA=host:port REGISTRY=url, else two cases at a time
	cargo build --locked --bins --examples
	$(PYTHON) tests/corpus/run.py --self-test --cases $(CORPUS_CASES) | tail -n 1
	$(PYTHON) tests/corpus/run.py --cases $(or $(CASES),$(CORPUS_CASES)) $(if $(ONLY),--only $(ONLY)) $(if $(PG),--pg $(PG)) \
	  $(if $(KAFKA),--kafka $(KAFKA) --registry $(REGISTRY),--lanes 2)

.PHONY: corpus-stack
corpus-stack: packages ## the corpus between a real Kafka and registry, started for it: CASES=dir ONLY=a,b
	cargo build --locked --bins --examples
	$(PYTHON) tests/corpus/run.py --stack --cases $(or $(CASES),$(CORPUS_CASES)) $(if $(ONLY),--only $(ONLY))

.PHONY: leak
leak: packages ## canaries in masked, hashed, truncated and excluded columns are found nowhere; rules that leak are refused
	cargo build --locked --bins --examples
	$(PYTHON) tests/corpus/leak.py

.PHONY: canary
canary: packages ## canary secrets and rows through every failure, between real servers that ask for them; found nowhere
	cargo build --locked --bins --examples
	$(PYTHON) tests/stack/run.py --only canaries,rotated-secrets,kafka-by-token

# The page is looked at with Debian's Chromium.
PAGE_PACKAGES := chromium chromium-driver fonts-dejavu-core

.PHONY: page
page: PACKAGES += $(PAGE_PACKAGES)
page: packages ## the status page in Chromium; DOCS=1 renews the pictures in docs/images
	cargo build --locked --bins --examples
	python3 tests/page/run.py $(if $(DOCS),--docs)

.PHONY: faults
faults: packages ## twelve faults injected for real, each repaired as the program says; DOCS=1 renews docs/faults.md
	cargo build --locked --bins --examples
	python3 tests/faults/run.py $(if $(DOCS),--docs)

.PHONY: package
package: packages ## image in a chroot, what `make dist` makes, systemd unit, compose file, chart, alert rules; getting started to the letter
	cargo build --locked --bins --examples
	python3 tests/package/run.py $(ONLY)
	python3 tests/package/getting_started.py

# A release's profile. DIST_PROFILE=dev shows the rest of the way without a release build.
DIST_PROFILE ?= dist
# With musl and an OpenSSL of its own, the program needs no library of the machine that it runs on.
DIST_TARGET ?= $(shell uname -m)-unknown-linux-musl
DIST_FOLDER = $(or $(CARGO_TARGET_DIR),target)/$(DIST_TARGET)/$(if $(filter dev,$(DIST_PROFILE)),debug,$(DIST_PROFILE))

.PHONY: dist
dist: PACKAGES += musl-tools
dist: packages ## the static, stripped program with its checksum and software bill of materials, in target/dist
	rustup target list --installed | grep -qx $(DIST_TARGET) || rustup target add $(DIST_TARGET)
	CC_$(subst -,_,$(DIST_TARGET))=musl-gcc cargo build --profile $(DIST_PROFILE) --locked --bin wellspring \
	  --target $(DIST_TARGET) --features static
	python3 docker/dist.py $(DIST_FOLDER)/wellspring target/dist $(DIST_TARGET)

.PHONY: adopt
adopt: packages ## what a Debezium left behind is taken over, or refused with the reason
	cargo build --locked --bins --examples
	$(PYTHON) tests/corpus/adopt.py

.PHONY: bench
bench: packages ## rates, CPU, memory and latency against pg_recvlogical; writes target/bench.json
	cargo build --release --locked --bins --examples
	$(PYTHON) tests/bench/run.py

.PHONY: lint
lint: ## format, lints, dependency rules, tidy
	cargo fmt --all --check
	cargo clippy --locked --all-targets -- -D warnings
	@cargo deny --version >/dev/null 2>&1 || cargo install --quiet --debug --locked cargo-deny@$(DENY_VERSION) || true
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --all-features --log-level error check bans licenses sources; \
	else echo "lint: cargo-deny cannot be had, dependency rules not checked"; fi
	cargo test --locked --test tidy
