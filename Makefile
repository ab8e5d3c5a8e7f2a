# The commands a person types. Everything else is in .ci/run, which runs these.
# `make prepare-*` installs what a target needs (apt, pip, npm, cargo) when it is missing.

CARGO ?= cargo
.DEFAULT_GOAL := help
.PHONY: help demo deb rpm test-packages package-programs test test-matrix test-regress corpus test-crash fuzz bench bench-budget bench-durability bench-instructions bench-mask bench-revoke lint fmt deny prepare-demo prepare-test prepare-test-matrix prepare-test-regress prepare-bench prepare-lint prepare-packages

help:
	@echo "make demo          build, start a private PostgreSQL and Sallyport, walk through it (KEEP=1 leaves it running)"
	@echo "make test          every test, with real servers and stock clients"
	@echo "make test-matrix   every client with PostgreSQL 14 to 18, directly and through Sallyport; writes docs/compatibility.md"
	@echo "make test-regress  PostgreSQL's own regression and isolation suites, directly and through Sallyport"
	@echo "make corpus        how much of PostgreSQL's tests and of what tools send is classified (docs/tools.md)"
	@echo "make test-crash    kill -9 a hundred times under writers; make test does it ten times"
	@echo "make fuzz          every fuzz target for SECONDS (60), or those in TARGETS"
	@echo "make bench         direct, through Sallyport, a bare relay, PgBouncer and HAProxy, interleaved (BENCH=--quick: 2 minutes)"
	@echo "make bench-budget   fails where decoding, judging, recording or relaying takes more instructions than benches/budget.toml"
	@echo "make bench-durability    what each durability of the recording costs a query"
	@echo "make bench-instructions  what decoding, judging and recording cost, in instructions (valgrind)"
	@echo "make bench-revoke   how long a revocation takes to put out 1,000 live sessions"
	@echo "make bench-mask     how fast values are found in rows and fields, in GB/s of one core"
	@echo "make deb rpm       target/package/sallyport_VERSION_ARCH.deb and .rpm (PROFILE=dev: of a development build)"
	@echo "make test-packages the packages in a booted systemd: install, use, upgrade under load, reboot, remove (docs/install.md)"
	@echo "make lint fmt      clippy with warnings denied; rustfmt"
	@echo "make deny          licences, bans and sources of every dependency"

demo: prepare-demo
	$(CARGO) build --locked --package appliance --bin sallyport --package loadgen --bin sallyport-loadgen
	@SALLYPORT="$$(.ci/binary dev)" LOADGEN="$$(.ci/binary dev sallyport-loadgen)" KEEP="$(KEEP)" packaging/demo/demo.sh

test: prepare-test
	$(CARGO) test --workspace --locked

test-matrix: prepare-test-matrix
	$(CARGO) test --locked --package appliance --test matrix -- $(MATRIX)

test-regress: prepare-test-regress
	$(CARGO) build --locked --package appliance --bin sallyport
	@SALLYPORT="$$(.ci/binary dev)" appliance/tests/regress/run $(REGRESS)

corpus: prepare-test-regress
	@suites="$${SALLYPORT_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/sallyport}/postgres-suites/source"; \
	$(CARGO) run --quiet --locked --package policy --example corpus -- \
		"PostgreSQL's regression tests=$$suites/src/test/regress/sql" "PL/pgSQL's tests=$$suites/src/pl/plpgsql/src/sql" \
		"tests of contrib=$$suites/contrib" "TPC-H and TPC-DS shapes=policy/tests/data/corpus" \
		"sections:what frameworks and reports send=appliance/tests/data/benign" \
		"sections:what tools ask of the catalogue=appliance/tests/data/metadata"

test-crash: prepare-test
	SALLYPORT_KILLS=100 $(CARGO) test --package appliance --test it --locked -- --nocapture e2e_crash

fuzz: prepare-demo
	fuzz/run $(or $(SECONDS),60) $(TARGETS)

bench: prepare-bench
	$(CARGO) build --locked --release --package appliance --bin sallyport
	$(CARGO) build --locked --release --package runtime --example relay
	$(CARGO) build --locked --release --package benches --bin mask --bin judge
	@SALLYPORT="$$(.ci/binary release)" RELAY="$$(.ci/binary release examples/relay)" MASK="$$(.ci/binary release mask)" JUDGE="$$(.ci/binary release judge)" benches/bench.py $(BENCH)

bench-durability: prepare-bench
	$(CARGO) build --locked --release --package appliance --bin sallyport
	@SALLYPORT="$$(.ci/binary release)" benches/durability.py $(BENCH)

bench-instructions: prepare-bench
	$(CARGO) build --locked --release --package benches --bin instructions
	@INSTRUCTIONS="$$(.ci/binary release instructions)" benches/instructions.py $(BENCH)

bench-budget: prepare-bench
	$(CARGO) build --locked --release --package benches --bin instructions
	@INSTRUCTIONS="$$(.ci/binary release instructions)" benches/instructions.py --check $(BENCH)

bench-revoke: prepare-bench
	$(CARGO) build --locked --release --package appliance --bin sallyport
	@benches/revoke.py --sallyport "$$(.ci/binary release)" $(BENCH)

bench-mask:
	$(CARGO) build --locked --release --package benches --bin mask
	@"$$(.ci/binary release mask)" $(BENCH)

# Packages are of what is released; PROFILE=dev makes them of a development build, to work on them.
PROFILE ?= dist

package-programs: prepare-packages
	$(CARGO) build --locked --profile $(PROFILE) --package appliance --package loadgen --bins

deb rpm: package-programs
	@packaging/build $@ $(PROFILE)

test-packages: package-programs
	@packaging/test/run $(PROFILE) $(PACKAGES)

lint: prepare-lint
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

fmt:
	$(CARGO) fmt --all

deny: prepare-lint
	.ci/deny

prepare-demo prepare-test prepare-test-matrix prepare-test-regress prepare-bench prepare-lint prepare-packages: prepare-%:
	@.ci/prepare $*
