# The one entry for every verb. `make` lists them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo demo-down test lint deny unit process cluster-test soak bench bench-micro image crds deploy generated cluster-up cluster-down clean

ARCH ?= $(shell dpkg --print-architecture 2>/dev/null || echo amd64)
CLUSTER := tests/localcluster/cluster

help: ## list the verbs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

demo: ## from nothing to four mails delivered on a real Kubernetes
	@tests/demo/demo up

demo-down: ## remove everything that the demo made
	@tests/demo/demo down

test: ## lint, and every layer of tests, the cluster included
	@tests/run

lint: ## formatting, clippy, chart, scripts, generated files
	@tests/run lint

deny: ## licences, sources and known vulnerabilities of all crates (installs cargo-deny)
	@tests/run deny

unit: ## tests that need nothing but cargo
	@tests/run unit

process: ## the relay program against Postfix, Exim, OpenSMTPD, aiosmtpd, and kill -9
	@tests/run process

cluster-test: ## chart, operator and relays on a real cluster (KUBECONFIG, or one made here)
	@tests/run cluster

soak: ## what takes minutes and gigabytes: thousands of simulated power cuts (POSTROAD_SEEDS=5000), a hundred kill -9 (POSTROAD_ROUNDS=100), a restart with a million messages waiting, 10,000 domains of which 9,000 hang
	@tests/run soak

bench: ## side by side with Postfix, Exim and OpenSMTPD on this machine; 35 minutes (BENCH="--runs 1 --workloads C" for less)
	@tests/bench/run $(BENCH)

bench-micro: ## instructions of the hot paths, beside what they were (MICRO=--update writes them down)
	@tests/micro/run $(MICRO)

image: ## build the image (ARCH=amd64 or arm64) and report its size
	@deploy/image/build $(ARCH)

crds: ## generate crds/ from the types
	@deploy/generate crds

deploy: ## render deploy/postroad.yaml from the chart
	@deploy/generate deploy

generated: ## check that what is generated is up to date
	@deploy/generate check

cluster-up: ## start the local cluster
	@$(CLUSTER) up

cluster-down: ## stop the local cluster
	@$(CLUSTER) down

clean: ## remove what was built
	cargo clean
	rm -rf tests/localcluster/bin
