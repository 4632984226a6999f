# Every target is one line that calls a tool. `make` alone lists them.
# PYTHON must be a real interpreter, not a version manager's shim: a shim costs ten seconds a start in User-Mode Linux.
PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=

# Without compiled files every start of a daemon compiles the package again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format bench clean packages-setup packages-demo packages-test

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## virtual environment with everything that the package and its tests import

demo: packages-demo $(STAMP) ## the main job on this machine: two nodes, tenants, pods, traffic, audit; cleans up
	@$(BIN)/python deploy/demo/run.py $(ARGS)

test: packages-test $(STAMP) ## the whole test suite (ARGS="-k words" for a part)
	@$(BIN)/python -m pytest --numprocesses 4 --dist worksteal $(ARGS)

check: $(STAMP) ## format, lint, types, import contracts, stale CRDs, house rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest --quiet tests/api/test_crds.py tests/test_architecture.py

format: $(STAMP) ## put the code in shape
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: packages-test $(STAMP) ## latency of ADD and DEL beside the reference plugins (minutes; a quiet machine)
	@$(BIN)/python -m pytest tests/bench -m bench -s -p no:randomly $(ARGS)

clean: ## remove what the targets above made in this folder
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist build danmpy/cni/native/danmpy-cni

packages-setup packages-demo: packages-%:
	@.ci/debian-packages $*

packages-test:
	@.ci/debian-packages test
	@.ci/kube-apiserver >/dev/null

$(VENV)/bin/python: | packages-setup
	@echo "make: virtual environment in $(VENV), from $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml hatch_build.py danmpy/cni/native/danmpy-cni.c | $(VENV)/bin/python
	@echo "make: installing danmpy and its development tools into $(VENV)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
