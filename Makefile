# Everything a person does with this checkout.  `make` alone lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
CACHE := $(or $(KAIZEN_CACHE),$(HOME)/.cache/kaizen)
export PYTHONDONTWRITEBYTECODE := 1

.NOTPARALLEL:
.PHONY: help cluster demo test unit e2e lint bench-serving soak generate lock clean distclean

help: ## List the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

cluster: ## Set up or continue a kind cluster with this checkout's Kaizen installed
	@$(PYTHON) -m hack cluster

demo: cluster $(VENV)/.installed ## Show a model that is served, drifts and is retrained; makes the cluster first
	@KUBECONFIG=$(CACHE)/kubeconfig PATH=$(CACHE)/bin:$$PATH PYTHONPATH=operator $(BIN)/python examples/flights/demo.py

test: lint unit cluster e2e ## Run all checks and tests; makes the cluster first

lint: $(VENV)/.installed ## Check style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=operator $(BIN)/lint-imports --no-cache

unit: $(VENV)/.installed ## Run the unit tests (seconds, no cluster)
	$(PYTEST) --numprocesses=auto tests/unit

e2e: $(VENV)/.installed ## Run the stories on the cluster that `make cluster` made
	$(PYTEST) tests/e2e

bench-serving: $(VENV)/.installed ## Compare the server with MLServer and KServe; OPTIONS="--seconds 1 --repeats 1" for minutes
	@PYTHONPATH=operator:. $(BIN)/python -m bench.serving $(OPTIONS)

soak: $(VENV)/.installed ## Attack, fuzz and overload the server for hours, no cluster; OPTIONS="--only attacks" for a part
	@PYTHONPATH=operator:. $(BIN)/python -m tests.soak $(OPTIONS)

generate: $(VENV)/.installed ## Write the CRDs from the models, and the chart's copy
	PYTHONPATH=operator $(BIN)/python -m kaizen crds --output crds
	PYTHONPATH=operator $(BIN)/python -m kaizen crds --output charts/kaizen/files/crds
	$(BIN)/ruff format .

lock: $(VENV)/.installed ## Pin all requirements anew, with hashes
	@$(PYTHON) -m hack lock
	@PYTHONPATH=operator:. $(BIN)/python -m bench.serving --lock

clean: ## Delete the cluster and work files; keep what was expensive to make
	@$(PYTHON) -m hack clean

distclean: ## Delete everything that these targets ever made
	@$(PYTHON) -m hack distclean

$(VENV)/.installed: requirements/dev.txt operator/kaizen/serving/engine/walk.c
	@$(PYTHON) -m hack venv
	@touch $@
