# The commands of everyday work. Each is one line: what it does is in hack/, where it can be read.

.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

.PHONY: help up down demo build image check-image sbom install-plugin test crash-sweep bench e2e cluster-up cluster-down lint generate verify

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: ## start the servers and the operator in the background, ready to use: source .dev/env
	@hack/dev up

down: ## end everything that "make up" started
	@hack/dev down

demo: ## tell the whole story on real servers, and check it; KEEP=1 leaves it running
	@hack/demo

build: ## compile the operator: target/debug/sync-operator
	@SQLX_OFFLINE=true cargo build --locked

image: ## build the container image, as an OCI archive in target/image
	@hack/image

check-image: ## run the image that was built last, and look into it; wants root
	@hack/image check

sbom: ## write down what the program is made of, as CycloneDX in target/image
	@hack/sbom

install-plugin: ## build "kubectl sync" and install it into PREFIX (~/.local)
	@hack/install-plugin

test: ## run all tests, on servers of their own
	@hack/test

crash-sweep: ## let the program die before and after each of its side effects; writes docs/crash-sweep.md, takes a quarter of an hour
	@hack/crash-sweep

bench: ## measure against the limits and against peers: bench/RESULTS.md; more than an hour
	@hack/bench

e2e: ## the image and the chart in a real cluster with real pods; KEEP=1 leaves it running, KUBECONFIG=… takes yours
	@hack/e2e

cluster-up: ## start that cluster alone, in .dev/cluster: source .dev/cluster/env
	@hack/cluster up .dev/cluster

cluster-down: ## end it
	@hack/cluster down .dev/cluster

lint: ## look over the sources: rustfmt, clippy, cargo-deny, shellcheck, actionlint, helm lint, ruff
	@hack/lint

generate: ## write crds/, docs/openapi.json, .sqlx/, the chart's README, deploy/
	@hack/generate

verify: ## generate, and fail if that differs from what is committed, or a version from Cargo.toml's
	@hack/generate verify
