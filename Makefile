# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-all oracle browser lint types reports bench build clean

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/shardsim run scenarios/single_node_tp.yaml --out reports/single_node_tp --force

test: $(STAMP)
	$(BIN)/python -m pytest -n 2

test-all: test oracle browser

# Compares the unsharded reference with Hugging Face transformers, live (installs a CPU build of torch).
oracle: $(STAMP)
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet -e '.[oracle]'
	$(BIN)/python -m pytest -m oracle

# Opens reports in headless Chromium; skipped with a reason where there is none.
browser: $(STAMP)
	$(BIN)/python -m pytest -m browser

lint: $(STAMP)
	$(BIN)/ruff check simulator tests benchmarks scripts
	$(BIN)/ruff format --check simulator tests benchmarks scripts

types: $(STAMP)
	$(BIN)/mypy

reports: $(STAMP)
	$(BIN)/python scripts/make_reports.py

bench: $(STAMP)
	$(BIN)/python -m pytest benchmarks --benchmark-only --benchmark-columns=min,median,max,rounds -o addopts=""

build: $(STAMP)
	$(BIN)/python -m build --wheel --outdir dist .

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
