# The first two targets need nothing but Python >= 3.11 and make.
#   make up     start everything on this machine        make test   the fast suite (<= 5 min on two cores)

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PORT_BASE ?= 7400
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help up test venv venv-dev check format test-all test-long test-loops bench soak proto reference dashboards live k6 lock lock-images clean

help:  ## Show this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: venv  ## Start the gateway, with what engines this machine has, or the simulator
	@$(BIN)/headrace up --port-base $(PORT_BASE) $(ARGS)

test: venv-dev  ## The fast suite
	@$(BIN)/python -m pytest -m "not slow and not browser and not loops" -n 3 --dist worksteal $(ARGS)

test-all: venv-dev  ## Everything: slow, browser and real-tool suites too
	@$(BIN)/python -m pytest -m "not slow and not browser and not loops" -n 3 --dist worksteal $(ARGS)
	@$(BIN)/python -m pytest -m "slow and not alone and not browser and not loops and not long" -n 3 --dist worksteal $(ARGS)
	@$(BIN)/python -m pytest -m "browser and not alone" -n 2 --dist loadfile $(ARGS)
	@$(BIN)/python -m pytest -m "alone and not loops and not long" $(ARGS)

test-long: venv-dev  ## Before a release: every faulty gateway against every case, a short soak, more of the benchmark
	@$(BIN)/python -m pytest -m long $(ARGS)

test-loops: venv-dev  ## The integration tests on asyncio's own loop in place of uvloop
	@$(BIN)/python -m pytest -m "loops and not alone" -n 3 --dist worksteal $(ARGS)

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
	@echo "creating $(VENV) (once; about a minute)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP_INSTALL) --require-hashes -r requirements.lock
	@$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.lock
	@echo "adding the test tools to $(VENV) (once)"
	@$(PIP_INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@

soak: venv-dev  ## Mixed load with kills for 30 minutes: does anything leak? (ARGS="--minutes 5"; ARGS="--speech": a face that speaks)
	@$(BIN)/python -m loadtest.soak $(ARGS)

proto: venv-dev  ## Generate streamkit/wire/pb anew from proto/
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -I proto --python_out=. --mypy_out=. --grpc_python_out=. --mypy_grpc_out=. \
	    $$(find proto -name '*.proto' | sort)

reference: venv-dev  ## Write the generated pages of docs/reference anew
	@$(BIN)/python -m launch.reference

dashboards: venv-dev  ## Write Grafana's pages, Prometheus' rules and docs/reference/metrics.md anew
	@$(BIN)/python -m dashboards
	@$(BIN)/python -m launch metrics --markdown > docs/reference/metrics.md

live: venv-dev  ## Draw docs/live.svg: a real run, scraped by a real Prometheus (about a minute)
	@$(BIN)/python -m loadtest.live

k6:  ## Load by k6 with its SSE extension, built once if Go is here (ARGS="-e RATE=20"; docs/loadtest.md)
	@K6="$(K6)" loadtest/k6/run $(ARGS)

# What each image installs, in the versions of requirements.lock: NAME=extras.
IMAGE_LOCKS := edge=webrtc,tfserving,traces control= arbiter=arbiter inference=inference,models,cpu \
    inference-gpu=inference,models,arbiter,gpu compositor=compositor observe= simulator=tfserving

lock:  ## Re-pin all lock files (needs uv)
	uv pip compile pyproject.toml --group build --extra up --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url -o requirements.lock
	uv pip compile pyproject.toml --group dev --extra up --extra bench --extra traces --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url -c requirements.lock -o requirements-dev.lock
	@$(MAKE) --no-print-directory lock-images

lock-images:
	@for each in $(IMAGE_LOCKS); do \
	    uv pip compile pyproject.toml --quiet --group build $$(echo "$${each#*=}" | tr , '\n' | sed '/./s/^/--extra /') \
	        --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url -c requirements.lock \
	        -o docker/locks/$${each%%=*}.lock || exit 1; \
	done

clean:  ## Remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
