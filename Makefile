# Thin: long work is in scripts/. `make help` lists what there is.
# Every target honours CARGO_TARGET_DIR.

.PHONY: help build test check fmt clippy docs deny demo bench crash-s3 fuzz clean

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## build   build larderd and larder for use (release)
build:
	cargo build --release --locked --bin larderd --bin larder

## test    install what is missing, then run every test
test:
	scripts/install-packages test
	scripts/run-tests

## check   what CI checks before it tests: form, lints, docs, dependencies
check: fmt clippy docs deny

fmt:
	cargo fmt --all --check

clippy:
	cargo clippy --workspace --all-targets --locked -- -D warnings

docs:
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

deny:
	scripts/deny

## demo    install what is missing, build, and show the main job on a scratch folder
demo:
	scripts/install-packages demo
	cargo build --release --locked --bin larderd --bin larder
	scripts/demo

## bench   measure, beside the real LXD when it is installed
bench:
	cargo build --release --locked --bin larderd --bin larder
	scripts/bench

## crash-s3  kill larderd while 32 clients put objects, CRASH_ROUNDS (50) times, and look at every byte
crash-s3:
	cargo build --locked --bin larderd
	LARDER_CRASH_ROUNDS=$${CRASH_ROUNDS:-50} cargo test --locked -p larder-tests --test crash_s3 -- --nocapture

## fuzz    run every fuzz target for FUZZ_SECONDS (30)
fuzz:
	scripts/fuzz

clean:
	cargo clean
