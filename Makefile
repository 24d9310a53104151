# Every command a person needs. Each sets up .venv by itself the first time, then runs.
PYTHON ?= python3.11
SET_UP := .venv/.installed
# The pipeline's commands say `python`: this puts the environment's own first.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help repro review sweep check test mutants lint deps lock

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' Makefile

repro: $(SET_UP)  ## Rebuild whatever is out of date: dvc repro
	@dvc repro
	@python -m tools.results note

review: $(SET_UP)  ## Open the page on which flagged labels are reviewed
	@python -m tools.review open

sweep: $(SET_UP)  ## Search hyper-parameters: SPACE=space.yaml
	@python -m tools.sweep $(or $(SPACE),space.yaml)

check: lint  ## Check style and types and run the unit tests: what to run before each commit
	@python -m pytest -p tests.unit_rules tests/unit

# A file at a time on each of three workers: what one waits for, the others compute through.
test: $(SET_UP)  ## Run the whole test suite
	@python -m pytest --numprocesses=3 --dist=loadfile --no-loadscope-reorder

mutants: $(SET_UP)  ## Check the unit tests by mutation: MODULE=batches (all without)
	@python -m tools.mutants $(MODULE)

lint: $(SET_UP)  ## Check style and types
	@ruff check .
	@ruff format --check .
	@mypy

deps: $(SET_UP)  ## Write the modules that each stage imports into dvc.yaml
	@python -m tools.deps

lock: $(SET_UP)  ## Write requirements.lock from pyproject.toml; UPGRADE=1 takes the newest versions
	@uv pip compile pyproject.toml --quiet --universal --python-version=3.11 --all-extras --group=dev --no-annotate \
	  --custom-compile-command="make lock" $(if $(UPGRADE),--upgrade) --output-file=requirements.lock

$(SET_UP): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || { \
	  echo "error: $(PYTHON) is not installed, or not Python 3.11, 3.12 or 3.13. Install one of these and name it: make repro PYTHON=python3.13"; exit 1; }
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@touch $@
