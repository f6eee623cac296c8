# The two commands of the README are `make pipeline` and `make test`. Every cargo call takes the whole workspace: another selection of
# packages means other features, and rebuilds DataFusion.

EXAMPLE := examples/books-and-movies/pipeline.yaml
STORAGE := target/pipeline

.PHONY: pipeline test check containers

## Builds everything (release) and runs the example from download to answers on a cluster of two executors. Run it twice.
pipeline:
	cargo build --release --workspace
	target/release/trireme run $(EXAMPLE) --embedded --executors 2 --storage $(STORAGE)

## Builds everything (debug) and runs all tests, those with real processes included.
test:
	cargo build --workspace
	@if cargo nextest --version >/dev/null 2>&1; then cargo nextest run --workspace; else cargo test --workspace; fi

## Format and lints, as CI checks them.
check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

## The image's containers run the example on a pod network (needs root, podman, buildah and debootstrap; installs them with apt).
containers:
	cargo build --release --workspace
	tests/rigs/containers.sh
