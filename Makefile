# The commands of everyday work. Each is one line: what it does is in hack/, where it can be read.

.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

.PHONY: help up down demo build test lint generate verify

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: ## start the servers and the operator in the background, ready to use: source .dev/env
	@hack/dev up

down: ## end everything that "make up" started
	@hack/dev down

demo: ## tell the whole story on real servers, and check it; KEEP=1 leaves it running
	@hack/demo

.PHONY: e2e cluster-up cluster-down
e2e: ## the image and the chart in a real cluster with real pods; KEEP=1 leaves it running, KUBECONFIG=… takes yours
	@hack/e2e

cluster-up: ## start that cluster alone, in .dev/cluster: source .dev/cluster/env
	@hack/cluster up .dev/cluster

cluster-down: ## end it
	@hack/cluster down .dev/cluster

build: ## compile the operator: target/debug/sync-operator
	@SQLX_OFFLINE=true cargo build --locked

test: ## run all tests, on servers of their own
	@hack/test

lint: ## look over the sources: rustfmt, clippy, cargo-deny, shellcheck, ruff
	@hack/lint

generate: ## write crds/, docs/openapi.json and .sqlx/ from the sources
	@hack/generate

verify: ## generate, and fail if that differs from what is committed
	@hack/generate verify
