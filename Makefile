# `make demo` and `make test` are all a newcomer needs: Python 3.11 and make, nothing else.
# Every target installs what is missing into .venv first and reuses it afterwards.

PYTHON ?= python3.11
PYTEST_ARGS ?=
BIN := .venv/bin
# What is installed follows from these two files: the stamp carries their checksum, not their age.
INSTALLED := .venv/.installed-$(shell cat pyproject.toml constraints.txt | cksum | tr ' ' '-')

# Else each of a run's many processes compiles the sources anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo demo-text test lint up down status deploy federation chaos coverage format install lock clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

demo: $(INSTALLED) ## a whole federated run on real digits, through the local stack, with links at the end
	@$(BIN)/fedloom demo

demo-text: $(INSTALLED) ## adapters of a text encoder over five clients, the same way
	@$(BIN)/fedloom demo --text

test: $(INSTALLED) ## every test; PYTEST_ARGS='-m "not stack and not slow"' for the quick ones
	$(BIN)/python -m pytest -rs -n 2 --dist loadgroup $(PYTEST_ARGS)

lint: $(INSTALLED) ## ruff, types of fedcore, the layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layers.py

up: $(INSTALLED) ## Prefect server, MLflow server and a worker, on loopback; DB=postgres and AUTH=1 as wanted
	@$(BIN)/fedloom stack up $(if $(DB),--db $(DB)) $(if $(AUTH),--auth)

down: $(INSTALLED) ## ends what `make up` started
	@$(BIN)/fedloom stack down

status: $(INSTALLED) ## what of the stack is running
	@$(BIN)/fedloom stack status

deploy: $(INSTALLED) ## brings the stack up and registers the deployments of prefect.yaml
	@$(BIN)/fedloom deploy

federation: $(INSTALLED) ## four hospitals with a worker each, beside the stack
	@$(BIN)/fedloom federation up

chaos: $(INSTALLED) ## kills of every process in every stage, with a report; half an hour
	$(BIN)/python -m benchmarks.chaos

coverage: $(INSTALLED) ## the tests with coverage of fedcore; fails under 90 %
	$(BIN)/python -m coverage erase
	$(BIN)/python -m pytest -q -rs -n 2 --dist loadgroup --cov --cov-report=term $(PYTEST_ARGS)

format: $(INSTALLED) ## let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(INSTALLED) ## only the installation

lock: ## renew constraints.txt from the newest releases pyproject.toml allows
	@bash .ci/lock "$(PYTHON)"

clean: ## remove the installation and the caches; runs under .fedloom stay
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis .coverage*

$(INSTALLED): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { \
	  echo "Fedloom needs Python 3.11; there is no '$(PYTHON)' here."; \
	  echo "Install it (Debian 12: apt install python3.11-venv; macOS: brew install python@3.11;"; \
	  echo "elsewhere: uv python install 3.11), or name yours: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; \
	  exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
	  echo "Fedloom needs Python 3.11; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing into .venv: some minutes the first time, kept afterwards."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps dp-accounting
	@rm -f .venv/.installed-*
	@touch $@
