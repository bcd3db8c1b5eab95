# Words for people and for CI. The first run makes .venv by itself; PYTHON chooses the interpreter for it.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet

# What a virtual environment has been given so far, each in an empty file.
VENV_MADE := $(VENV)/.stamp-venv
PACKAGE   := $(VENV)/.stamp-package
DEV       := $(VENV)/.stamp-dev
DOCS      := $(VENV)/.stamp-docs
FUZZ      := $(VENV)/.stamp-fuzz
BROWSER   := $(VENV)/.stamp-browser

# Where pyenv keeps its Pythons, each folder followed by a colon: its shims run only those that are chosen.
PYENV_ROOT ?= $(HOME)/.pyenv
PYENV_PATH := $(subst $() ,,$(addsuffix :,$(wildcard $(PYENV_ROOT)/versions/*/bin)))

# The peers that the benchmark measures stay apart from all that.
BENCH_VENV := .venv-bench
BENCH      := $(BENCH_VENV)/.stamp-bench

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-all test-browser soak fuzz coverage lint format types docs bench bench-quick build test-dist clean

help: ## list these words
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 \2/p' $(firstword $(MAKEFILE_LIST)) | awk '{ w = $$2; $$1 = $$2 = ""; printf "  make %-12s %s\n", w, $$0 }'

demo: $(PACKAGE) ## play the demo: a server on this machine, both faces, drops and resuming
	$(BIN)/python -m sseclient_dual --demo

test: $(DEV) ## run the tests; fails unless they cover all lines and branches
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --numprocesses=auto --dist=loadfile
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

test-all: $(DEV) ## run the tests on every Python found, with the newest and the lowest urllib3; ARGS go to pytest
	PATH="$(PYENV_PATH)$$PATH" $(BIN)/tox run -- $(ARGS)

test-browser: $(BROWSER) ## open the pages of docs/examples in Chromium, which is installed if need be; ARGS go to pytest
	$(BIN)/python -m pytest tests/browser $(ARGS)

soak: $(DEV) ## run what takes longer than a minute, 11 minutes in all; ARGS: one part of it, and its own arguments
	PYTHONPATH=tests $(BIN)/python -m stress.soak $(ARGS)

coverage: test ## as test, then write what is not covered to build/coverage/index.html
	$(BIN)/coverage html --quiet

fuzz: $(FUZZ) ## fuzz the parser and the HTTP side, 20 minutes; ARGS go to tests/fuzz/driver.py, such as http --inputs 5000
	PYTHONPATH=tests $(BIN)/python -m fuzz.driver $(ARGS)

lint: $(DEV) ## check style and formatting
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(DEV) ## mend what lint can mend by itself
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(DEV) ## check the types of the package, the tests, benchmarks and examples, by mypy and by pyright
	$(BIN)/mypy --strict pytest_sseclient_dual.py sseclient_dual tests benchmarks docs/examples
	$(BIN)/basedpyright --warnings

docs: $(DOCS) ## build the documentation to build/docs/index.html; a warning is an error
	$(BIN)/sphinx-build -W --keep-going -n -q -b html docs build/docs

bench: $(BENCH) ## measure beside other clients, 20 minutes; writes docs/benchmarks/
	$(BENCH_VENV)/bin/python benchmarks/run.py

bench-quick: $(BENCH) ## measure the main table only, 2 minutes; writes build/benchmarks/
	$(BENCH_VENV)/bin/python benchmarks/run.py --quick

build: $(DEV) ## build the wheel and the source archive to dist/, and check them
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl

test-dist: build ## install the wheel by itself on every Python found, and play the demo
	PATH="$(PYENV_PATH)$$PATH" $(BIN)/tox run -m dist --installpkg dist/*.whl

clean: ## remove everything that these words made
	rm -rf $(VENV) $(BENCH_VENV) build dist .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find sseclient_dual tests docs benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(VENV_MADE):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo 'Python 3.10 or later is needed: name one, for example make PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo '$(PYTHON) cannot make virtual environments: install its venv module (the package python3-venv' \
			'of Debian and its kin), or name another one: make PYTHON=...' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(PACKAGE): $(VENV_MADE) pyproject.toml
	$(PIP) install --editable .
	@touch $@

$(DEV): $(PACKAGE)
	$(PIP) install --editable '.[dev]'
	@touch $@

$(DOCS): $(PACKAGE)
	$(PIP) install --editable '.[docs]'
	@touch $@

$(FUZZ): $(DEV)
	$(PIP) install --editable '.[fuzz]' || echo 'atheris cannot be installed here: hypothesis takes its place' >&2
	@touch $@

$(BROWSER): $(DEV)
	@command -v chromium >/dev/null || { \
		echo 'Chromium is missing: installing its Debian package, which takes root' && \
		apt-get update --quiet=2 && \
		DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet=2 --no-install-recommends chromium; } || { \
		echo 'Chromium is needed, as the command chromium; on Debian: apt-get install chromium' >&2; exit 1; }
	$(PIP) install --editable '.[browser]'
	@touch $@

$(BENCH): pyproject.toml
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip --disable-pip-version-check --quiet install --editable '.[bench]'
	@touch $@
