# `make check` is what CI runs. Everything needs only Rust; cargo-nextest and cargo-deny are used where they are installed.

# Measured data that the conformance tests check against; from the root of the repository.
CONFORMANCE_DATA ?= ../shared/data

.PHONY: check lint doc deny test conformance bench

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

bench:
	cargo bench -p config-explorer
