# `make check` is what CI runs. Everything needs only Rust; cargo-nextest and cargo-deny are used where they are installed.

# Measured data that the conformance tests check against; from the root of the repository.
CONFORMANCE_DATA ?= ../shared/data
PROGRAM = $(or $(CARGO_TARGET_DIR),target)/release/config-explorer

.PHONY: check lint doc deny test conformance accuracy bench

check: lint doc deny test

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

deny:
	@if cargo deny --version >/dev/null 2>&1; then \
		cargo deny check bans licenses sources; \
	else \
		echo "skipped: cargo-deny is not installed (cargo install --locked cargo-deny)"; \
	fi

# nextest runs no examples in documentation.
test:
	@if cargo nextest --version >/dev/null 2>&1; then \
		cargo nextest run --workspace && cargo test --workspace --doc; \
	else \
		cargo test --workspace; \
	fi

conformance:
	CONFORMANCE_DATA=$(CONFORMANCE_DATA) cargo test --release -p config-explorer --test conformance -- --nocapture

# Row 238 is an artefact of its log: docs/memory.md says why.
accuracy:
	cargo build -q --release -p config-explorer-cli
	@set -e; { \
		printf '%s\n\n' '# Accuracy of memory planning' \
			'Made by `make accuracy`; do not edit. [memory.md](memory.md) says what is modelled, and why rows are off.'; \
		$(PROGRAM) validate memory $(CONFORMANCE_DATA)/vllm-memory/starts.csv \
			--models $(CONFORMANCE_DATA)/models --skip 238 --output markdown; \
		printf '\n%s\n\n' '# Accuracy of latency'; \
		printf '%s\n' '[latency.md](latency.md) says what is modelled, and what limits it. Rows in quarantine and bursts stand apart.'; \
		for group in model gpu; do \
			printf '\n## Each %s predicted by coefficients that have not seen it\n\n' $$group; \
			$(PROGRAM) validate latency $(CONFORMANCE_DATA)/latency/measured.csv \
				--models $(CONFORMANCE_DATA)/models --leave-out $$group --output markdown; \
		done; \
	} > docs/accuracy.md.new; mv docs/accuracy.md.new docs/accuracy.md

bench:
	cargo bench -p config-explorer
