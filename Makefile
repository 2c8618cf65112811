# Everything a developer does here, as commands; `make help` lists them.

PYTHON ?= python3
UV ?= uv
VENV ?= .venv

BIN := $(VENV)/bin
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  PYTHON=python3.12 make …  uses another interpreter (3.11 or newer) for $(VENV)"

.PHONY: setup
setup: ## Make .venv with the locked requirements and this package (quick when nothing changed)
	@PYTHON="$(PYTHON)" VENV="$(VENV)" scripts/setup.sh

.PHONY: check
check: setup format-check lint types imports ## Everything quick: format, lint, types, imports, tests that are not slow
	"$(BIN)/pytest" -m "not slow"

.PHONY: format-check
format-check: setup
	"$(BIN)/ruff" format --check .

.PHONY: format
format: setup ## Format the code and mend what the linter can mend by itself
	"$(BIN)/ruff" format .
	"$(BIN)/ruff" check --fix-only .

.PHONY: lint
lint: setup ## Lint (ruff, all rules but the reasoned exceptions)
	"$(BIN)/ruff" check .

.PHONY: types
types: setup ## Check types (mypy, strict)
	"$(BIN)/mypy"

.PHONY: imports
imports: setup ## Check who may import whom (import-linter)
	"$(BIN)/lint-imports" --no-logo

.PHONY: test
test: ## Everything, as on a fresh machine: Debian packages, .venv, checks, all tests
	PYTHON="$(PYTHON)" VENV="$(VENV)" scripts/test.sh

.PHONY: unit
unit: setup ## The unit and property tests only
	"$(BIN)/pytest" tests/unit tests/property

.PHONY: bench
bench: setup ## Measure: run every benchmark and print its figures
	@for run in "throughput.py mixed" "throughput.py audit" "throughput.py mixed --cores 2" "throughput.py audit --cores 2" \
	  latency.py idle.py start.py verify.py micro_separator.py; do "$(BIN)/python" benchmarks/$$run; done

.PHONY: soak
soak: setup ## Follow a rotated log for an hour with kills and store outages, and account for every line
	"$(BIN)/python" -m tests.soak --minutes 60

.PHONY: campaign
campaign: setup ## Inject 1200 faults into the running agent and show what was lost (needs root, strace, faketime)
	"$(BIN)/python" -m tests.campaign

.PHONY: demo
demo: ## Show the product at work on a real service
	PYTHON="$(PYTHON)" scripts/demo.sh

.PHONY: image
image: ## Build the container image (docker or podman)
	scripts/image.sh

.PHONY: wheel
wheel: setup ## Build the wheel twice, compare, and print its SHA-256
	PYTHON="$(BIN)/python" scripts/wheel.sh

.PHONY: sbom
sbom: setup ## Write the bill of materials of the locked requirements
	PYTHON="$(BIN)/python" scripts/sbom.sh dist

.PHONY: audit
audit: setup ## Ask OSV about every locked requirement (needs the internet)
	"$(BIN)/python" scripts/audit.py

.PHONY: lock
lock: ## Resolve and lock the requirements anew (needs uv)
	@command -v "$(UV)" >/dev/null || { echo "make: locking needs uv; install it (pipx install uv) or name it: UV=/path/to/uv make lock" >&2; exit 1; }
	"$(UV)" pip compile $(LOCK_FLAGS) --output-file requirements/runtime.txt pyproject.toml
	"$(UV)" pip compile $(LOCK_FLAGS) --constraint requirements/runtime.txt --extra attest --output-file requirements/attest.txt pyproject.toml
	"$(UV)" pip compile $(LOCK_FLAGS) --constraint requirements/attest.txt --extra attest --extra evidence --output-file requirements/evidence.txt pyproject.toml
	"$(UV)" pip compile $(LOCK_FLAGS) --constraint requirements/evidence.txt --extra dev --output-file requirements/dev.txt pyproject.toml

LOCK_FLAGS := --quiet --universal --python-version 3.11 --generate-hashes --upgrade --no-emit-index-url --no-emit-find-links --no-header

.PHONY: clean
clean: ## Remove everything that was built or installed here
	rm -rf "$(VENV)" build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache demo-output
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
