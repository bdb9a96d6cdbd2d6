# make demo, make test: each makes .venv when there is none, installs what constraints.txt pins, and runs.

# The first Python that is new enough; another one: make test PYTHON=/path/to/python
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
    $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready
DOCS = $(VENV)/.ready-docs

.PHONY: demo test lint docs wheel help

help:
	@echo "make demo   a real seismogram through the codec and back, into seislatent-demo/"
	@echo "make test   the tests that need no GPU and no patience"
	@echo "make lint   ruff, mypy, the import contract, spelling"
	@echo "make docs   the documentation, into site/"
	@echo "make wheel  the package, into dist/"

demo: $(READY)
	$(BIN)/seislatent demo --out seislatent-demo --overwrite

test: $(READY)
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check src tests docs benchmarks examples
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell src tests docs presets benchmarks examples Makefile pyproject.toml README.md CONTRIBUTING.md CHANGELOG.md CITATION.cff

docs: $(DOCS)
	$(BIN)/python docs/make_api.py
	$(BIN)/mkdocs build --strict

wheel: $(READY)
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

$(READY): pyproject.toml constraints.txt
	@if [ -z "$(PYTHON)" ]; then echo "seislatent needs Python 3.11 or newer, and none was found: make PYTHON=/path/to/python" >&2; exit 1; fi
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "seislatent needs Python 3.11 or newer, not $$($(PYTHON) --version 2>&1): make PYTHON=/path/to/python" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	@touch $@

$(DOCS): $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev,docs]"
	@touch $@
