# make install    create .venv with the versions in requirements.lock; needs Python 3.11 (make install PYTHON=...)
# make run        install, then run all stages that are out of date and register the compositions
# make test       install, also the tools for development, then run the tests
# make test-slow  slow tests; make test-faults kills processes and fills disks; make test-core tests the library without
#                 Prefect, MLflow and DVC
# make docs       writes docs/params.md and docs/commands.md, then builds the documentation in site/; a warning is an error
# make up         install, then start the servers and workers; make down stops them, make ps lists them
# make lock       write the lock files again from pyproject.toml; OPTIONS="--upgrade-package NAME" for newer versions
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
CORE := .venv-core
comma := ,
# Tests run in one process more than there are cores, at most 4: they often wait for processes that they started. Each
# file runs in one process.
PARALLEL := -n $(shell echo $$(( $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2) + 1 ))) --maxprocesses 4 --dist loadfile
# Where it is set, every process that a test or a stage starts compiles the whole package again.
unexport PYTHONDONTWRITEBYTECODE
# What goes through the commands, the stages and the classes for Python. `make test` runs all tests of the library; without
# Prefect, MLflow and DVC only an import can behave differently, and tests/no_pipeline.py imports every module.
CORE_TESTS := $(addprefix tests/,applications cards cli finetuning pretraining report runtime shelf steps test_package.py)
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
UV_VERSION := 0.13.9
# The hashes in the lock files are those of the wheels for Linux on x86-64. HASHES=off installs without them: the
# versions are the same, but nobody checks the files.
HASHES ?= $(if $(filter Linux-x86_64,$(shell uname -s)-$(shell uname -m)),on,off)
LOCKED := --no-deps $(if $(filter on,$(HASHES)),--require-hashes)

# Of another Python or another folder (the project was moved): the environment is made again.
IS_3_11 := import sys; sys.exit(sys.version_info[:2] != (3, 11))
STALE := $(shell test -e $(VENV) || exit 0; $(BIN)/python -c "$(IS_3_11)" 2>/dev/null || echo FORCE; \
    test ! -s $(STAMP) || test "$$(cat $(STAMP))" = "$(CURDIR)" || echo FORCE)

.PHONY: install run test test-slow test-faults test-core lint docs format ui up down ps clean lock FORCE

install: $(STAMP)
	@echo "Installed in $(VENV). Next: 'make run' trains the default pipeline; '. $(BIN)/activate && cclm --help' lists the commands."

# $(call pip_install,VENV,ARGUMENTS) installs with uv, which takes seconds, and falls back to pip. uv does not read pip's
# settings, so we pass on pip's index and find-links. Bytecode is compiled here once; without it, every command starts
# seconds later.
define pip_install
	test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
	pip="$(1)/bin/python -m pip --disable-pip-version-check"; \
	setting() { $$pip config list | sed -n "s/^[^=]*\.$$1='\(.*\)'$$/\1/p" | tail -n 1; }; \
	index="$$(setting index-url)"; links="$$(setting find-links)"; \
	{ $$pip install --quiet uv==$(UV_VERSION) && $(1)/bin/uv pip install --quiet --compile-bytecode --python $(1)/bin/python $(2) \
	    $${index:+--index-url "$$index"} $${links:+--find-links "$$links"}; } \
	  || $$pip install --quiet $(2)
endef

$(STAMP): requirements.lock requirements-torch.txt pyproject.toml $(STALE)
	@$(PYTHON) -c "$(IS_3_11)" 2>/dev/null || { echo "error: Python 3.11 is needed, but '$(PYTHON)' is \
	$$($(PYTHON) --version 2>&1 | head -n 1). Run: make install PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(if $(STALE),rm -rf $(VENV))
	@$(if $(filter off,$(HASHES)),echo "warning: the hashes of the packages are not checked (HASHES=off)." >&2)
	$(call pip_install,$(VENV),$(LOCKED) -r requirements.lock)
	$(call pip_install,$(VENV),-r requirements-torch.txt)
	$(BIN)/python -m pip --disable-pip-version-check uninstall --quiet --yes cclm 2>/dev/null  # its name before cclm-core
	$(BIN)/python -m pip --disable-pip-version-check install --quiet --no-deps -e .
	install -d -m 700 .cclm
	echo "$(CURDIR)" > $@

$(DEV_STAMP): $(STAMP) requirements-dev.lock
	$(call pip_install,$(VENV),$(LOCKED) -r requirements-dev.lock)
	touch $@

# Needs the package index of requirements.lock.
lock: $(STAMP)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python infra/lock.py $(OPTIONS)

# The library and its test tools at pinned versions, without the extras that bring Prefect, MLflow or DVC.
$(CORE)/.installed: requirements.lock requirements-dev.lock requirements-torch.txt pyproject.toml
	rm -rf $(CORE)
	$(PYTHON) -m venv $(CORE)
	grep -ho '^[A-Za-z0-9._-]*==[^ ]*' requirements.lock requirements-dev.lock requirements-torch.txt > $(CORE)/pinned.txt
	$(call pip_install,$(CORE),-c $(CORE)/pinned.txt -e ".[evaluation$(comma)huggingface$(comma)archives$(comma)test]")
	touch $@

run: $(STAMP)
	$(BIN)/cclm run

test: $(DEV_STAMP)
	$(BIN)/pytest -m "not slow" $(PARALLEL)

test-slow: $(DEV_STAMP)
	$(BIN)/pytest -m slow

test-faults: $(DEV_STAMP)
	$(BIN)/pytest -v tests/faults

test-core: $(CORE)/.installed
	$(CORE)/bin/python tests/no_pipeline.py
	$(CORE)/bin/pytest -m "not slow" $(PARALLEL) $(CORE_TESTS)

lint: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(DEV_STAMP)
	$(BIN)/python docs/generate.py
	$(BIN)/sphinx-build --fail-on-warning --quiet -c docs -d .cclm/doctrees . site
	@echo "The documentation is site/index.html."

format: $(DEV_STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

ui: $(STAMP)
	$(BIN)/cclm ui

up: $(STAMP)
	$(BIN)/python -m infra.stack up

down: $(STAMP)
	$(BIN)/python -m infra.stack down

ps: $(STAMP)
	$(BIN)/python -m infra.stack ps

# Removes the pipeline's outputs. Caches stay (.dvc/cache, .cclm/downloads), so the next run restores them.
clean:
	rm -rf data models results
	find .cclm -mindepth 1 -maxdepth 1 ! -name downloads ! -name prefect ! -name remote ! -name stack ! -name '*.key' ! -name '*.token' -exec rm -rf {} + 2>/dev/null || true
