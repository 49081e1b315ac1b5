# `make run` and `make test` are all that a machine with Python 3.11+ and make needs.

PYTHON ?= $(shell for each in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$each && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Tests wait for other processes half of their time, so that even two cores have work for three.
JOBS ?= $(shell cores=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); [ $$cores -gt 3 ] && echo $$cores || echo 3)
# A process that has no more tests takes over those that another has not begun: what takes long is not known beforehand.
SHARED := -n $(JOBS) --dist worksteal
PYTEST ?= $(BIN)/python -m pytest $(SHARED)
SERVE ?=
CHAOS_ROUNDS ?= 20
RECORDS ?= 10000000
PEERS ?= all
BENCH ?=
GUARD ?=
COMPILED := build/compiled
IN_COMPILED := cd $(COMPILED) && $(if $(filter /%,$(VENV)),,../../)$(BIN)/python
# What drives bytes through the pass; the other tests don't notice what it is made of.
TESTS_COMPILED ?= tests/core tests/gateway tests/e2e tests/test_alike.py tests/test_build.py

.DEFAULT_GOAL := help
.PHONY: help run test lint format compiled test-compiled wheel bench bench-load bench-guard bench-guard-compiled years chaos soak clean

help: ## Show what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.installed ## Install what is needed and run the proxy on :8080
	@$(BIN)/openai-proxy serve $(SERVE)

test: lint ## Install what is needed, then check and test everything
	$(PYTEST) -m 'not soak'

lint: $(VENV)/.installed-dev ## Check style, types and the floors
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev ## Format the code
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

# Tests and documents are links, file by file, because what builds distributions does not look at a directory twice.
compiled: $(COMPILED)/.built ## Compile the pass, in a copy of the tree: build/compiled (needs a C compiler)
	@rm -rf $(COMPILED)/tests $(COMPILED)/docs
	@for each in tests docs; do $(BIN)/python -c 'import os, shutil as s, sys; s.copytree(*sys.argv[1:], copy_function=os.symlink, ignore=s.ignore_patterns("__pycache__"))' \
		$(CURDIR)/$$each $(COMPILED)/$$each; done
	@cp config.example.toml $(COMPILED)
	@$(IN_COMPILED) -c 'import sys; from proxy.build import build; sys.exit(build() != "compiled")' || \
		{ echo 'make: $(COMPILED) was built for another Python; make clean' >&2; exit 1; }

test-compiled: compiled ## Test the compiled pass
	$(IN_COMPILED) -m pytest $(SHARED) -m 'not soak' $(TESTS_COMPILED)

wheel: compiled ## Build the wheel, with the pass compiled, into dist/
	@mkdir -p dist
	cp $(COMPILED)/dist/*.whl dist/

bench: compiled ## Measure CPU per request and chunk, latency and memory, beside other gateways (PEERS=none: without)
	@mkdir -p .bench && ln -sfn ../../.bench $(COMPILED)/.bench
	$(IN_COMPILED) -m tests.benchmarks.run --peers $(PEERS) $(BENCH)

bench-load: compiled ## Measure streams, latency, large bodies, scale, keys, TLS and overload
	$(IN_COMPILED) -m tests.benchmarks.under_load $(BENCH)

bench-guard: $(VENV)/.installed-dev ## Hold the instructions per request and chunk against their budget
	$(BIN)/python -m tests.benchmarks.guard $(GUARD)

bench-guard-compiled: compiled ## The same for the compiled pass
	$(IN_COMPILED) -m tests.benchmarks.guard $(GUARD)

years: $(VENV)/.installed-dev ## Measure ten million records: ingest, size, every report
	$(BIN)/python -m tests.benchmarks.ten_million --records $(RECORDS)

chaos: $(VENV)/.installed-dev ## Kill and cut at random, longer than make test does
	CHAOS_ROUNDS=$(CHAOS_ROUNDS) $(BIN)/python -m pytest -m chaos

soak: $(VENV)/.installed-dev ## Twenty rounds against quotas, then an hour of mixed traffic with an eye on memory
	OVERSPEND_ROUNDS=20 OVERSPEND_WORKERS=4 $(BIN)/python -m pytest tests/e2e/test_overspend.py
	$(BIN)/python -m pytest -m soak -s

clean: ## Remove what was built and installed; data/ stays
	rm -rf $(VENV) .ci-venv .bench dist build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find proxy -name "*.so" -delete; rm -f *__mypyc.*.so

# What is installed is installed again only when pyproject.toml says something else.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV) ..."
	@$(PIP) install --editable '.[embedded]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV), with what the tests need ..."
	@$(PIP) install --upgrade 'pip>=25.1' # the first that knows dependency groups
	@$(PIP) install --editable '.[embedded]' --group dev
	@touch $(VENV)/.installed $@

# In a copy, because compiled modules come to lie beside their sources, where Python prefers them even when they are old.
$(COMPILED)/.built: pyproject.toml README.md LICENSE $(shell find proxy migrations -type f -not -path '*/__pycache__/*') | $(VENV)/.installed-dev
	@echo "compiling in $(COMPILED), which takes a minute or two ..."
	@rm -rf $(COMPILED)
	@mkdir -p $(COMPILED)
	@cp -R pyproject.toml README.md LICENSE proxy migrations $(COMPILED)
	@find $(COMPILED) -name __pycache__ -prune -exec rm -rf {} +
	@cd $(COMPILED) && HATCH_BUILD_HOOKS_ENABLE=1 $(if $(filter /%,$(VENV)),,../../)$(PIP) wheel --no-deps --wheel-dir dist .
	@touch $@

$(BIN)/python:
	@test -n '$(PYTHON)' || { echo 'make: no Python 3.11 or newer was found; name one: make PYTHON=/path/to/python3' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
