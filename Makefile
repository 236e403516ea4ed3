# `make help` lists what there is. Everything that a target needs, it sets up itself; the second time for nothing.
.DEFAULT_GOAL := help
SHELL := /bin/bash -o pipefail

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What the set-up depends on: a change of these sets up again.
SET_UP := $(VENV)/.set-up
COMPARE := docker compose -f docker-compose.yml -f docker-compose.compare.yml

.PHONY: help
help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(SET_UP)  ## the main job: broker, workers, producers, Flower and the audit
	@# Until Python has started, Ctrl-C would print its traceback. Then the demo handles it.
	@trap '' INT; exec $(BIN)/baozi demo

.PHONY: test
test: $(SET_UP)  ## all tests, half an hour on two cores, against a real broker; three files at a time
	@$(BIN)/pytest --numprocesses 3 --dist loadfile

.PHONY: test-fast
test-fast: $(SET_UP)  ## the tests that are not marked slow, two minutes on two cores; no containers, one real broker
	@$(BIN)/pytest --numprocesses 3 --dist loadfile -m "not slow"

SECONDS_TO_FUZZ := $(if $(filter file command\ line environment,$(origin SECONDS)),$(SECONDS),600)
.PHONY: fuzz
fuzz: $(SET_UP)  ## hostile messages for SECONDS (default 600) with SEED (default: another each time)
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS_TO_FUZZ) $(if $(SEED),--seed $(SEED))

.PHONY: test-containers
test-containers: $(SET_UP)  ## the tests of docker compose alone; they need a Docker engine
	@$(BIN)/pytest tests/containers

.PHONY: secrets
secrets:  ## passwords for docker compose, in .env; those that are there stay
	@deploy/secrets

.PHONY: up
up: secrets  ## the main job in containers, until the audit has ended; workers and Flower stay
	@deploy/check
	@docker compose up --build --detach
	@# Its table, when it comes, and its exit code. (`up --exit-code-from` would stop all when the first has done its work.)
	@docker compose logs --follow --no-log-prefix audit
	@exit "$$(docker wait "$$(docker compose ps --all --quiet audit)")"

.PHONY: down
down:  ## stop the containers; the volumes stay
	@docker compose down

.PHONY: compare-machines
compare-machines: secrets $(SET_UP)  ## side by side across hosts, in containers: who ate what, on which
	@mkdir -p results-machines
	@$(COMPARE) build --quiet topology
	@$(COMPARE) run --rm --no-TTY gather --json > results-machines/results.json; \
	  ended=$$?; $(COMPARE) down; exit $$ended
	@$(BIN)/baozi report results-machines

.PHONY: bench
bench: $(SET_UP)  ## speed beside the peers, in one run of some forty minutes, on a broker of its own
	@$(BIN)/python -m benchmarks

.PHONY: lint
lint: $(SET_UP)  ## ruff, mypy --strict and the rules of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@# Programs without a suffix by which mypy would find them.
	@$(BIN)/mypy deploy/image/declare-topology
	@$(BIN)/mypy deploy/reference
	@$(BIN)/mypy deploy/translations
	@$(BIN)/lint-imports --no-logo --no-cache

.PHONY: docs
docs: $(SET_UP)  ## renew docs/reference.md from the docstrings
	@page=$$($(BIN)/python deploy/reference) && echo "$$page" > docs/reference.md

.PHONY: translated
translated: $(SET_UP)  ## after a Chinese page was renewed: write the digest of its English page into it
	@$(BIN)/python deploy/translations --renew

.PHONY: check
check:  ## what CI runs: a clean clone, lint, all tests, nothing skipped
	@.ci/run

.PHONY: lock
lock: $(SET_UP)  ## renew requirements*.lock from pyproject.toml
	@deploy/lock $(BIN)

.PHONY: clean
clean:  ## take away what make made; the broker's and the ledger's data stay
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

$(SET_UP): requirements.lock requirements-dev.lock pyproject.toml
	@deploy/set-up $(PYTHON) $(VENV)
	@touch $@
