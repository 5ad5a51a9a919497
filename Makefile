# make install    create .venv with the versions in requirements.lock; needs Python 3.11
# make run        install, then run all stages that are out of date and register the compositions
# make test       install, then run the tests
# make test-slow  slow tests; make test-faults kills processes and fills disks; make test-core tests the library without
#                 Prefect, MLflow and DVC
# make up         install, then start the servers and workers; make down stops them, make ps lists them
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
CORE := .venv-core
comma := ,
# Tests run in one process per core, at most 4, and each file in one process.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install run test test-slow test-faults test-core lint format ui up down ps clean

install: $(STAMP)

# $(call pip_install,VENV,ARGUMENTS) installs with uv, which takes seconds, and falls back to pip. uv does not read pip's
# settings, so we pass on pip's index and find-links. Bytecode is compiled here once; without it, every command starts
# seconds later.
define pip_install
	test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
	pip="$(1)/bin/python -m pip --disable-pip-version-check"; \
	setting() { $$pip config list | sed -n "s/^[^=]*\.$$1='\(.*\)'$$/\1/p" | tail -n 1; }; \
	index="$$(setting index-url)"; links="$$(setting find-links)"; \
	{ $$pip install --quiet uv && $(1)/bin/uv pip install --quiet --compile-bytecode --python $(1)/bin/python $(2) \
	    $${index:+--index-url "$$index"} $${links:+--find-links "$$links"}; } \
	  || $$pip install --quiet $(2)
endef

$(STAMP): requirements.lock pyproject.toml
	$(call pip_install,$(VENV),-r requirements.lock)
	$(BIN)/python -m pip --disable-pip-version-check install --quiet --no-deps -e .
	install -d -m 700 .cclm
	touch $@

# The library and its test tools at pinned versions, without the extras that bring Prefect, MLflow or DVC.
$(CORE)/.installed: requirements.lock pyproject.toml
	rm -rf $(CORE)
	$(call pip_install,$(CORE),-c requirements.lock -e ".[evaluation$(comma)huggingface$(comma)archives$(comma)test]")
	touch $@

run: install
	$(BIN)/cclm run

test: install
	$(BIN)/pytest -m "not slow" $(PARALLEL)

test-slow: install
	$(BIN)/pytest -m slow

test-faults: install
	$(BIN)/pytest -v tests/faults

test-core: $(CORE)/.installed
	$(CORE)/bin/python tests/no_pipeline.py
	$(CORE)/bin/pytest -m "not slow" $(PARALLEL) --ignore tests/flows --ignore tests/faults --ignore tests/infra

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

# Removes the pipeline's outputs. Caches stay (.dvc/cache, .cclm/downloads), so the next run restores them.
clean:
	rm -rf data models results
	find .cclm -mindepth 1 -maxdepth 1 ! -name downloads ! -name prefect ! -name remote ! -name stack -exec rm -rf {} + 2>/dev/null || true
