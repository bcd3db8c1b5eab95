# Targets for people and for CI. The first run makes .venv by itself; PYTHON chooses the interpreter for it.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet

# A test process for each core and three more, because tests often wait; the tests of a file stay in one process.
PARALLEL = --numprocesses=$(shell $(BIN)/python -c 'import os; print((os.cpu_count() or 1) + 3)') --dist=loadfile
PYTEST   = $(BIN)/python -m pytest $(PARALLEL)

# Empty files that record which extras are installed in the virtual environment.
VENV_MADE := $(VENV)/.stamp-venv
PACKAGE   := $(VENV)/.stamp-package
DEV       := $(VENV)/.stamp-dev
DOCS      := $(VENV)/.stamp-docs
FUZZ      := $(VENV)/.stamp-fuzz
BROWSER   := $(VENV)/.stamp-browser
WHEELS    := $(VENV)/.stamp-wheels

# The compiled core for the tests, built without a trace in the virtual environment, and the tests that run with it: not the
# slow ones, not those of the modules that receive no event, and not the repetitions over HTTP/2, which has no compiled code.
SPEEDUPS  := build/speedups
HOT_TESTS := -m 'not slow' -k 'not HTTP/2' tests/core tests/feed tests/transport/test_chunks.py tests/transport/test_response.py \
	$(patsubst %,--ignore=tests/core/test_%.py,backoff checkpoint checks errors policy waiting)

# The processes that tests start load compiled modules, which takes a third of the time, even if the environment forbids it.
export PYTHONDONTWRITEBYTECODE =

# The folders of pyenv's Pythons, each followed by a colon. Its shims would run only the selected versions.
PYENV_ROOT ?= $(HOME)/.pyenv
PYENV_PATH := $(subst $() ,,$(addsuffix :,$(wildcard $(PYENV_ROOT)/versions/*/bin)))

# The clients that the benchmark compares have an environment of their own.
BENCH_VENV := .venv-bench
BENCH      := $(addprefix $(BENCH_VENV)/.stamp-,bench node speedups)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo check test test-speedups test-all test-browser soak fuzz coverage lint format types docs speedups bench bench-quick build test-dist wheels release-check clean

help: ## list the available targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 \2/p' $(firstword $(MAKEFILE_LIST)) | awk '{ w = $$2; $$1 = $$2 = ""; printf "  make %-13s %s\n", w, $$0 }'

demo: $(PACKAGE) ## run the demo: a local server that drops connections, and both APIs
	$(BIN)/python -m sseclient_dual --demo

check: lint types ## run lint, types and the quick unit tests, in 40 seconds; for the inner loop
	$(PYTEST) -m 'not slow' tests/core tests/testing tests/project/test_structure.py

test: $(DEV) ## run all tests, in 4 minutes, some of them twice: without and with the compiled core; ARGS: for pytest
	@test -n '$(ARGS)' || echo 'Running all tests, which takes about 4 minutes on 2 cores (make check: 40 seconds).'
	SSECLIENT_DUAL_SPEEDUPS=0 $(PYTEST) $(ARGS)
	@test -n '$(ARGS)' || $(MAKE) --no-print-directory test-speedups

test-speedups: $(DEV) ## run the tests of the hot paths with the compiled core; ARGS: options or tests for pytest
	@PYTHONPATH=tests $(BIN)/python -m support.implementations $(SPEEDUPS)
	@test ! -d $(SPEEDUPS) || { \
		echo 'Running the tests of the hot paths with the compiled core.'; \
		PYTHONPATH="$(abspath $(SPEEDUPS))$${PYTHONPATH:+:$$PYTHONPATH}" $(PYTEST) $(or $(ARGS),$(HOT_TESTS)); }

coverage: $(DEV) ## run all tests and require full coverage, in 4 minutes; writes build/coverage/index.html
	$(BIN)/coverage erase
	SSECLIENT_DUAL_SPEEDUPS=0 $(BIN)/coverage run -m pytest $(PARALLEL)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage html --quiet --fail-under=0
	$(BIN)/coverage report

test-all: $(DEV) ## run the tests on every Python found, with the newest and the lowest urllib3; ARGS: for pytest
	PATH="$(PYENV_PATH)$$PATH" $(BIN)/tox run -- $(ARGS)

test-browser: $(BROWSER) ## open the pages of docs/examples in Chromium, in 5 minutes; ARGS: for pytest
	$(BIN)/python -m pytest tests/browser $(ARGS)

soak: $(DEV) ## run the long tests, in an hour; ARGS: one part (chaos, closing, ...) and its own arguments
	PYTHONPATH=tests $(BIN)/python -m stress.soak $(ARGS)

fuzz: $(FUZZ) ## fuzz the parser, the HTTP side and the compiled core, in 30 minutes; ARGS: such as http --inputs 5000
	PYTHONPATH=tests $(BIN)/python -m fuzz.driver $(ARGS)

lint: $(DEV) ## check style and formatting
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(DEV) ## fix style and formatting where possible
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(DEV) ## check the types of package, tests, benchmarks and examples with mypy and pyright
	$(BIN)/mypy --strict pytest_sseclient_dual.py sseclient_dual tests benchmarks docs/examples .ci
	$(BIN)/basedpyright --warnings

docs: $(DOCS) ## build the documentation to build/docs/index.html; warnings are errors
	$(BIN)/sphinx-build -W --keep-going -n -q -b html docs build/docs

speedups: $(VENV_MADE) ## build the compiled core and install it into .venv; requires a C compiler
	$(PIP) install ./speedups
	@$(BIN)/python -c 'import sseclient_dual_speedups' || { \
		echo 'The compiled core was not built: install a C compiler and the headers of Python' >&2; exit 1; }

bench: $(BENCH) ## measure this and other clients, in 50 minutes; writes docs/benchmarks/; ARGS: parts
	$(BENCH_VENV)/bin/python benchmarks/run.py $(ARGS)

bench-quick: $(BENCH) ## measure the main table only, in 2 minutes; writes build/benchmarks/; ARGS: parts
	$(BENCH_VENV)/bin/python benchmarks/run.py --quick $(ARGS)

build: $(DEV) ## build the wheel and the source archive to dist/, and check them
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	$(BIN)/python .ci/check_dist.py dist/*

test-dist: build ## try the wheel, alone and with each extra, on every Python found; run the tests of the source archive
	PATH="$(PYENV_PATH)$$PATH" $(BIN)/tox run -m dist --installpkg dist/*.whl
	rm -rf build/sdist
	mkdir -p build/sdist
	tar --extract --file dist/*.tar.gz --directory build/sdist --strip-components 1
	cd build/sdist && PYTHONPATH="$$PWD" $(abspath $(BIN))/python -m pytest $(PARALLEL) -m 'not slow and not real'

wheels: build $(WHEELS) ## build, audit and try the distribution of the compiled core; writes build/wheels/
	rm -rf build/wheels speedups/build speedups/*.egg-info
	$(BIN)/python -m build --outdir build/wheels/built speedups
	$(BIN)/abi3audit --strict --verbose build/wheels/built/*.whl
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/auditwheel repair --wheel-dir build/wheels build/wheels/built/*.whl
	mv build/wheels/built/*.tar.gz build/wheels
	rm -r build/wheels/built
	$(BIN)/twine check --strict build/wheels/*
	SPEEDUPS="$$(echo build/wheels/*.whl)" PATH="$(PYENV_PATH)$$PATH" $(BIN)/tox run -f dist_speedups --installpkg dist/*.whl

release-check: $(DEV) ## run all that a release needs, in some hours, with a summary; ARGS: some of the steps
	$(BIN)/python .ci/release_check.py $(ARGS)

clean: ## remove everything that these targets made
	rm -rf $(VENV) $(BENCH_VENV) build dist speedups/build .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find sseclient_dual tests docs benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(VENV_MADE):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo 'Python 3.10 or later is needed: choose one, for example make PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo '$(PYTHON) cannot make virtual environments: install its venv module (python3-venv on Debian and' \
			'Ubuntu), or choose another Python: make PYTHON=...' >&2; exit 1; }
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
	$(PIP) install --editable '.[fuzz]' || echo 'atheris cannot be installed here: using hypothesis instead' >&2
	@touch $@

$(BROWSER): $(DEV)
	@command -v chromium >/dev/null || { \
		echo 'Chromium is missing: installing its Debian package, which requires root' && \
		apt-get update --quiet=2 && \
		DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet=2 --no-install-recommends chromium; } || { \
		echo 'Chromium is needed, as the command chromium; on Debian: apt-get install chromium' >&2; exit 1; }
	$(PIP) install --editable '.[browser]'
	@touch $@

$(WHEELS): $(DEV)
	$(PIP) install --editable '.[wheels]'
	@touch $@

$(BENCH_VENV)/.stamp-bench: pyproject.toml
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip --disable-pip-version-check --quiet install --editable '.[bench]'
	@touch $@

# A parser in JavaScript, to compare with. Pinned like the other peers.
$(BENCH_VENV)/.stamp-node: $(BENCH_VENV)/.stamp-bench
	npm install --prefix $(BENCH_VENV) --no-save --no-audit --no-fund --ignore-scripts --loglevel error \
		eventsource-parser@4.1.3 || echo 'npm cannot install eventsource-parser: the benchmark leaves it out' >&2
	@touch $@

$(BENCH_VENV)/.stamp-speedups: $(BENCH_VENV)/.stamp-bench $(wildcard speedups/*.c speedups/*.py speedups/*.toml)
	$(BENCH_VENV)/bin/python -m pip --disable-pip-version-check --quiet install --force-reinstall ./speedups
	@$(BENCH_VENV)/bin/python -c 'import sseclient_dual_speedups' 2>/dev/null || \
		echo 'the compiled core cannot be built: the benchmark leaves it out' >&2
	@touch $@
