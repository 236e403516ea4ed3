# `make help` lists the targets. Each target sets up what it needs. If that is set up already, it does nothing.
.DEFAULT_GOAL := help
SHELL := /bin/bash -o pipefail

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The set-up touches this file. If the lock files or pyproject.toml are newer, the set-up runs again.
SET_UP := $(VENV)/.set-up
COMPARE := docker compose -f docker-compose.yml -f docker-compose.compare.yml

.PHONY: help
help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(SET_UP)  ## the main job: broker, workers, producers, Flower and the audit
	@# While Python starts, Ctrl-C would print a traceback, so it is ignored. Then the demo handles it.
	@trap '' INT; exec $(BIN)/baozi demo

.PHONY: test
test: $(SET_UP)  ## all tests against a real broker, three files at a time; forty-five minutes on two cores
	@$(BIN)/pytest --numprocesses 3 --dist loadfile

.PHONY: test-fast
test-fast: $(SET_UP)  ## the tests that are not marked slow, on one real broker, without containers; two minutes on two cores
	@$(BIN)/pytest --numprocesses 3 --dist loadfile -m "not slow"

SECONDS_TO_FUZZ := $(if $(filter file command\ line environment,$(origin SECONDS)),$(SECONDS),600)
.PHONY: fuzz
fuzz: $(SET_UP)  ## send hostile messages for SECONDS (default 600) with SEED (default: random)
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS_TO_FUZZ) $(if $(SEED),--seed $(SEED))

.PHONY: test-containers
test-containers: $(SET_UP)  ## only the tests of docker compose; they need a Docker engine
	@$(BIN)/pytest tests/containers

.PHONY: secrets
secrets:  ## write passwords for docker compose to .env; existing ones stay
	@deploy/secrets

.PHONY: up
up: secrets  ## the main job in containers; ends with the audit, workers and Flower stay
	@deploy/check
	@docker compose up --build --detach
	@# Prints the audit's table and returns its exit code. `up --exit-code-from` would stop all services when the first ends.
	@docker compose logs --follow --no-log-prefix audit
	@exit "$$(docker wait "$$(docker compose ps --all --quiet audit)")"

.PHONY: down
down:  ## stop the containers; the volumes stay
	@docker compose down

.PHONY: compare-machines
compare-machines: secrets $(SET_UP)  ## the comparison across hosts, in containers: which consumer ate what on which host
	@mkdir -p results-machines
	@$(COMPARE) build --quiet topology
	@$(COMPARE) run --rm --no-TTY gather --json > results-machines/results.json; \
	  ended=$$?; $(COMPARE) down; exit $$ended
	@$(BIN)/baozi report results-machines

.PHONY: bench
bench: $(SET_UP)  ## measure the speed of this project and its peers on each broker; more than an hour
	@$(BIN)/python -m benchmarks

.PHONY: bench-quick
bench-quick: $(SET_UP)  ## measure only what the speed targets name; some ten minutes
	@$(BIN)/python -m benchmarks --quick

.PHONY: lint
lint: $(SET_UP)  ## ruff, mypy --strict and the import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@# Programs without the suffix .py, which mypy does not find by itself.
	@$(BIN)/mypy deploy/image/declare-topology
	@$(BIN)/mypy deploy/reference
	@$(BIN)/mypy deploy/translations
	@$(BIN)/mypy deploy/messages
	@$(BIN)/mypy deploy/dangers
	@$(BIN)/lint-imports --no-logo --no-cache

.PHONY: lesson
lesson: $(SET_UP)  ## record the runs of the lesson again and write docs/lesson/index.html; some ten minutes
	@$(BIN)/python -m side_by_side.lesson

.PHONY: dangers
dangers: $(SET_UP)  ## show each danger three times, and once more in a container, and write docs/dangers.md; an hour
	@rm -rf results-dangers results-dangers-in-a-container
	@# 7 means that a danger was not seen, which the table says.
	@$(BIN)/baozi prove --danger all --times 3 --out results-dangers || test $$? -eq 7
	@$(BIN)/baozi prove --danger all --on container --out results-dangers-in-a-container || test $$? -eq 7
	@cp results-dangers/results.json docs/dangers/results.json
	@cp results-dangers-in-a-container/results.json docs/dangers/in-a-container.json
	@$(BIN)/python deploy/dangers

.PHONY: losses
losses: $(SET_UP)  ## record what stock Celery loses and write docs/what-celery-loses.md; some forty minutes
	@$(BIN)/python -m side_by_side.celery_losses

.PHONY: docs
docs: $(SET_UP)  ## make docs/reference.md from the docstrings
	@page=$$($(BIN)/python deploy/reference) && echo "$$page" > docs/reference.md

.PHONY: translated
translated: $(SET_UP)  ## after a change of a Chinese page: write the digest of its English page into it
	@$(BIN)/python deploy/translations --renew

.PHONY: messages
messages: $(SET_UP)  ## after a change of a sentence of the command line: renew its Chinese catalogue
	@$(BIN)/python deploy/messages

.PHONY: check
check:  ## what CI runs: lint and all tests in a clean clone, without skipped tests
	@.ci/run

.PHONY: lock
lock: $(SET_UP)  ## update requirements*.lock from pyproject.toml
	@deploy/lock $(BIN)

.PHONY: clean
clean:  ## delete what make made; the data of the broker and the ledger stay
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

$(SET_UP): requirements.lock requirements-dev.lock pyproject.toml
	@deploy/set-up $(PYTHON) $(VENV)
	@touch $@
