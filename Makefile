# make install   a virtual environment in .venv from requirements.lock, on a bare Python 3.11
# make run       install, then the whole pipeline: what changed is run, the compositions are registered
# make test      install, then the tests that take minutes at most; make test-slow the others, make test-faults of those
#                the ones in which a run is killed, a disk is full, a server is away
# make up        install, then Prefect's and MLflow's servers and the workers; make down ends them, make ps shows them
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
STAMP := $(VENV)/.installed

.PHONY: install run test test-slow test-faults lint format ui up down ps clean

install: $(STAMP)

# uv installs in a fraction of pip's time; where it cannot be had, or does not manage, pip does it. uv does not read
# pip's settings, so the index and the folder of wheels that pip is told to use are passed on.
# The bytecode is made once: where Python may not write it, every command would take seconds longer.
$(STAMP): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	setting() { $(PIP) config list | sed -n "s/^[^=]*\.$$1='\(.*\)'$$/\1/p" | tail -n 1; }; \
	index="$$(setting index-url)"; links="$$(setting find-links)"; \
	{ $(PIP) install --quiet uv && $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock \
	    $${index:+--index-url "$$index"} $${links:+--find-links "$$links"}; } \
	  || $(PIP) install --quiet -r requirements.lock
	$(PIP) install --quiet --no-deps -e .
	install -d -m 700 .cclm
	touch $@

run: install
	$(BIN)/cclm run

test: install
	$(BIN)/pytest -m "not slow"

test-slow: install
	$(BIN)/pytest -m slow

test-faults: install
	$(BIN)/pytest -v tests/faults

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

ui: install
	$(BIN)/cclm ui

up: install
	$(BIN)/python -m infra.stack up

down: install
	$(BIN)/python -m infra.stack down

ps: install
	$(BIN)/python -m infra.stack ps

# What the pipeline made here: the caches stay (.dvc/cache, .cclm/downloads), so that the next run restores it.
clean:
	rm -rf data models results
	find .cclm -mindepth 1 -maxdepth 1 ! -name downloads ! -name prefect ! -name remote ! -name stack -exec rm -rf {} + 2>/dev/null || true
