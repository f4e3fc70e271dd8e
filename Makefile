# The first two targets need nothing but Python >= 3.11 and make.
#   make up     start everything on this machine        make test   the fast suite (<= 5 min on two cores)

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PORT_BASE ?= 7400
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help up test venv venv-dev check format test-all bench peers lock clean

help:  ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: venv  ## Start the gateway, with what engines this machine has, or the simulator
	@$(BIN)/headrace up --port-base $(PORT_BASE) $(ARGS)

test: venv-dev  ## The fast suite
	@$(BIN)/python -m pytest -m "not slow and not browser" -n 2 --dist worksteal $(ARGS)

test-all: venv-dev  ## Everything: slow, browser and real-tool suites too
	@$(BIN)/python -m pytest -m "not slow and not browser" -n 2 --dist worksteal $(ARGS)
	@$(BIN)/python -m pytest -m "slow or browser" $(ARGS)

check: venv-dev  ## Formatting, lint, types and import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: venv-dev  ## Rewrite formatting and what lint can mend
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: venv-dev  ## The relay benchmark against every peer on this machine (bench: ARGS="--quick")
	@$(BIN)/headrace bench relay $(ARGS)

venv: $(VENV)/.run  ## Create .venv with what the services need
venv-dev: $(VENV)/.dev

$(VENV)/.run: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Headrace needs Python 3.11 or newer; this is %d.%d. Say which: make PYTHON=python3.12 up" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@echo "creating $(VENV) (once; about half a minute)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP_INSTALL) --require-hashes -r requirements.lock
	@$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.lock
	@echo "adding the test tools to $(VENV) (once)"
	@$(PIP_INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@

lock:  ## Re-pin both lock files (needs uv)
	uv pip compile pyproject.toml --group build --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url -o requirements.lock
	uv pip compile pyproject.toml --group dev --all-extras --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url -c requirements.lock -o requirements-dev.lock

clean:  ## Remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
