# Every command a person needs. Each sets up .venv by itself the first time, then runs.
PYTHON ?= python3.11
SET_UP := .venv/.installed
# The pipeline's commands say `python`: this puts the environment's own first.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help repro review sweep test mutants lint deps lock clean-venv

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' Makefile

repro: $(SET_UP)  ## Rebuild whatever is out of date: dvc repro
	@dvc repro
	@python -m tools.results note

review: $(SET_UP)  ## Open the page on which suspect labels are reviewed
	@python -m tools.review open

sweep: $(SET_UP)  ## Search hyper-parameters: SPACE=space.yaml
	@python -m tools.sweep $(or $(SPACE),space.yaml)

# A file at a time on each of two workers: what one waits for, the other computes through.
test: $(SET_UP)  ## Run the whole test suite
	@python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder

mutants: $(SET_UP)  ## Check the unit tests by mutation: MODULE=batches (all without)
	@python -m tools.mutants $(MODULE)

lint: $(SET_UP)  ## Check style and types
	@ruff check .
	@ruff format --check .
	@mypy

deps: $(SET_UP)  ## Write the modules that each stage imports into dvc.yaml
	@python -m tools.deps

lock: $(SET_UP)  ## Write requirements.lock from pyproject.toml in a fresh environment
	@python -m tools.lock

$(SET_UP): requirements.lock
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found. Install Python 3.11, or name one: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@touch $@
