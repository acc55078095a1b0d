# Thin: long work is in scripts/. `make help` lists what there is.
# Every target honours CARGO_TARGET_DIR.

.PHONY: help build test check fmt clippy docs deny demo lab test-lab test-lab-containers test-lab-daemon power-cut faults bench bench-drivers bench-s3 soak crash-s3 s3-tests fuzz clean

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

## lab     build the guest with LVM and ZFS of its own, or find it in the cache (tests/lab/README.md)
lab:
	tests/lab/build

## test-lab run the suites of the drivers that need that guest in it; DRIVER=x runs one
test-lab:
	tests/lab/test-drivers $(DRIVER)

## test-lab-containers run the container tests on cgroup v2, without AppArmor and with it
test-lab-containers:
	tests/lab/test-containers

## test-lab-daemon run larderd itself in that guest on lvm and zfs: its API and a minute of the soak each; DRIVER=x runs one
test-lab-daemon:
	tests/lab/test-daemon $(DRIVER)

## power-cut let guests lose their power in the middle of changes on btrfs, lvm and zfs (DRIVER=x: one), and look at what is left
power-cut:
	tests/lab/power-cut $(DRIVER)

## faults  run the suite of DRIVER=x with a fault at every step (what this kernel has not, in guests: go on where the last run was), and note the result in docs/proofs
faults:
	scripts/faults $(DRIVER)

## bench   measure, beside the real LXD when it is installed
bench:
	cargo build --release --locked --bin larderd --bin larder
	scripts/bench

## bench-drivers measure drivers beside the real LXD and Incus (dir, btrfs) and beside the tools they use (btrfs; lvm, zfs, ceph in guests)
bench-drivers:
	scripts/install-packages bench-drivers
	cargo build --release --locked --bin larderd
	scripts/bench-drivers dir
	scripts/bench-drivers btrfs
	scripts/bench-bare btrfs
	tests/lab/bench-drivers

## bench-s3 measure the S3 endpoint beside the protocol layer alone, nginx and plain synced files
bench-s3:
	scripts/install-packages bench-s3
	cargo build --release --locked --bin larderd --example load --example memory --example fill
	scripts/bench-s3

## soak    random verbs of many clients for SECONDS (600) on DRIVER (every one that works here); SEED repeats a run
soak:
	cargo build --bins --locked
	LARDER_SOAK_SECONDS=$(or $(SECONDS),600) LARDER_SOAK_DRIVER=$(DRIVER) LARDER_SOAK_SEED=$(SEED) \
		cargo test --package larder-tests --test soak --locked -- --nocapture

## crash-s3  kill larderd while 32 clients put objects, CRASH_ROUNDS (50) times on each driver (DRIVER=x: one), and look at every byte
crash-s3:
	cargo build --locked --bin larderd
	LARDER_CRASH_ROUNDS=$${CRASH_ROUNDS:-50} LARDER_SOAK_DRIVER=$(DRIVER) \
		cargo test --locked -p larder-tests --test crash_s3 -- --nocapture

## s3-tests run the public suite of Ceph against the S3 endpoint, and compare with docs/s3.md
s3-tests:
	scripts/s3-tests

## fuzz    run every fuzz target for FUZZ_SECONDS (30)
fuzz:
	scripts/fuzz

clean:
	cargo clean
