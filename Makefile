# `make help` lists the targets from the comments beside them.
SHELL := /bin/bash
PYTHON ?= python3
SWEEP ?= sweeps/demo.yaml
PORT ?= 5000
CONFIG ?= configs/challenge.yaml
PY := .venv/bin/python
STAMP := .venv/.installed-$(shell sha256sum requirements.lock 2>/dev/null | cut -c1-16)
export NO_ALBUMENTATIONS_UPDATE := 1
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

setup: $(STAMP) ## install everything into .venv, once per lock

$(STAMP): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { echo "Python 3.11 to 3.13 is needed; choose one with: make PYTHON=python3.12 setup" >&2; exit 2; }
	@$(PYTHON) -m venv .venv || { echo "python3-venv is missing; on Debian: apt-get install python3-venv" >&2; exit 2; }
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check uv
	@.venv/bin/uv pip sync --quiet --compile-bytecode --python .venv/bin/python --require-hashes requirements.lock
	@.venv/bin/python -m ensurepip --upgrade >/dev/null && .venv/bin/python -m pip install --quiet --disable-pip-version-check uv
	@rm -f .venv/.installed-*; touch $@

sweep: setup ## search, train the best, write a submission (SWEEP=sweeps/X.yaml)
	@$(PY) -m src.sweep --config $(SWEEP)

test: setup ## lint, types, the rooms' imports and every test of the default run, two files at a time
	@$(PY) -m ruff check src tests docs
	@$(PY) -m ruff format --check src tests docs
	@$(PY) -m mypy
	@.venv/bin/lint-imports
	@$(PY) -m pytest -n 2 --dist loadfile

test-all: setup ## also the tests that need the real data, a GPU or minutes
	@$(PY) -m pytest --everything

lint: setup ## mend what ruff can, then check style, types and the rooms' imports
	@$(PY) -m ruff check --fix src tests docs
	@$(PY) -m ruff format src tests docs
	@$(PY) -m mypy
	@.venv/bin/lint-imports

bench: setup ## speed, each row a ratio measured here and now
	@$(PY) -m tests.benchmarks

docs: setup ## write docs/configuration.md anew and build the site into site/, strict about dead links
	@$(PY) -m docs.generate_configuration
	@$(PY) -m zensical build --clean --strict
	@echo "site/index.html"

ui: setup ## the MLflow UI on the runs (PORT=5000)
	@$(PY) -m src.ui --port $(PORT)

app: PORT := 8501
app: setup ## the page to try models on photos (PORT=8501)
	@$(PY) -m src.app --port $(PORT)

# torch and its CUDA libraries are left out: they take gigabytes, and hosted machines have them.
bundle: setup ## project, wheels and weights for a machine without internet, into bundle/ (CONFIG=configs/X.yaml)
	@rm -rf bundle && mkdir -p bundle/project bundle/wheels
	@git archive HEAD | tar -x -C bundle/project
	@.venv/bin/uv pip compile pyproject.toml --constraints requirements.lock --quiet --no-header --no-annotate \
		--no-emit-index-url | grep -vE '^(torch|torchvision|triton|nvidia-.*|cuda-.*)==' > bundle/requirements.txt
	@.venv/bin/python -m pip wheel --quiet --no-deps --wheel-dir bundle/wheels --requirement bundle/requirements.txt
	@HF_HOME=bundle/huggingface $(PY) -c 'import sys; from src.config.loader import load_config; \
		from src.models.backbones.base import Backbone; Backbone(load_config(sys.argv[1]).model.backbone)' $(CONFIG)
	@du -sh bundle

lock: setup ## resolve pyproject.toml's ranges anew into requirements.lock
	@.venv/bin/uv pip compile pyproject.toml --extra dev --extra blip --extra app --extra export --extra gbm --extra weights --extra docs --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet --upgrade -o requirements.lock

.PHONY: help setup sweep test test-all lint bench docs ui app bundle lock
