# Everything a user or CI runs. `make` or `make help` lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3.11
# Extra arguments for pip, e.g. PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu" for a small torch.
PIP_ARGS ?=
CONFIG ?= pipelines/configs/movielens_100k.yaml
USER_ID ?= 42
BIN := .venv/bin
export OMP_WAIT_POLICY ?= PASSIVE
export TOKENIZERS_PARALLELISM ?= false
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# torch goes first: CPU or CUDA is the machine's choice, so its hash is not in the locks; everything else is held to its own.
TORCH = grep '^torch==' requirements.lock | $(BIN)/pip install -q $(PIP_ARGS) -r /dev/stdin

.PHONY: help setup setup-dev demo test test-containers test-install test-fast lint format bench scale up down ui compile experiments lock docs audit sbom clean

help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready .venv-serve/.ready ## Make both environments from their locks

setup-dev: setup .venv/.ready-dev ## Also the tools for tests and lint

.venv/.ready: requirements.lock pyproject.toml
	@echo "Setting up .venv (torch, mlflow, feast, kfp, ...): a few minutes the first time"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(TORCH)
	@$(BIN)/pip install -q $(PIP_ARGS) --no-deps --require-hashes -r requirements.lock
	@$(BIN)/pip install -q $(PIP_ARGS) --no-deps -e .
	@touch $@

.venv/.ready-dev: requirements-dev.lock .venv/.ready
	@$(BIN)/pip install -q $(PIP_ARGS) --no-deps --require-hashes -r requirements-dev.lock
	@touch $@

.venv-serve/.ready: serving/requirements.lock serving/triton.lock
	@echo "Setting up .venv-serve (Triton and onnxruntime)"
	@test -x .venv-serve/bin/python || $(PYTHON) -m venv .venv-serve
	@.venv-serve/bin/pip install -q $(PIP_ARGS) --no-deps --require-hashes -r serving/requirements.lock
	@.venv-serve/bin/pip install -q $(PIP_ARGS) --no-deps --require-hashes -r serving/triton.lock
	@touch $@

demo: setup ## MovieLens-100K from raw files to top-10 answers from Triton
	@$(BIN)/lorefuse run --config $(CONFIG)
	@$(BIN)/lorefuse recommend --user $(USER_ID) -k 10
	@$(BIN)/lorefuse lists

test: setup-dev ## All tests that can run here; the number skipped is printed and explained
	@sh tests/stores/install.sh
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 25

test-containers: setup-dev ## Build the image of the steps and run the training pipeline in it; skipped without an engine
	@PYTHON=$(BIN)/python bash infra/docker/test_containers.sh

test-install: setup-dev ## The wheel with all its packages in a new environment, the demo without a checkout (ten minutes)
	@LOREFUSE_TEST_INSTALL=full $(BIN)/python -m pytest tests/install -n 0

test-fast: setup-dev ## Unit tests alone
	@$(BIN)/python -m pytest tests/unit -n 2 -m "not slow"

lint: setup-dev ## ruff, mypy (strict), docstring coverage
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/interrogate -q lorefuse components pipelines

format: setup-dev ## Rewrite files as `make lint` wants them
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup-dev demo ## Every stage beside what one would pick instead: one table (50 minutes; BENCH=--quick: 20)
	@$(BIN)/python benchmarks/bench.py $(BENCH)

scale: setup-dev ## 25 million interactions through the data steps, each under 4,000 MB (some ten minutes)
	@$(BIN)/python benchmarks/scale.py --rows 25000000 --limit-mb 4000

experiments: setup ## Five seeds, all controls, both splits: the tables of docs/experiments.md
	@$(BIN)/lorefuse run --config pipelines/configs/movielens_100k_study.yaml --no-deploy

up: setup ## Start Triton (with the champion) and MLflow, and keep them running
	@$(BIN)/lorefuse up

down: ## Stop what `make up` or `make demo` started
	@$(BIN)/lorefuse down

ui: setup ## Open MLflow in the browser
	@$(BIN)/lorefuse ui

compile: setup ## Write the cluster YAML of the training pipeline
	@$(BIN)/lorefuse compile --out training.yaml

PIP_COMPILE = $(BIN)/pip-compile -q --upgrade --strip-extras --generate-hashes --no-header --no-emit-find-links \
  --no-emit-index-url --no-emit-options --no-emit-trusted-host --annotation-style=line

lock: setup-dev ## Resolve the locks again from pyproject.toml
	@$(PIP_COMPILE) --extra serve --extra pipelines -o requirements.lock pyproject.toml
	@$(PIP_COMPILE) --extra serve --extra pipelines --extra dev -c requirements.lock -o requirements-dev.lock pyproject.toml
	@$(PIP_COMPILE) -o infra/audit.lock infra/audit.in
	@$(PIP_COMPILE) -o docs/site.lock docs/site.in
	@for lock in requirements.lock requirements-dev.lock; do \
	  awk '/^(lorefuse @|#|$$)/ {next} /^torch==/ {sub(/\+cpu/, ""); sub(/ \\$$/, ""); print; torch = 1; next} \
	    torch && /--hash/ {next} {torch = 0; print}' $$lock > $$lock.new && mv $$lock.new $$lock; done

.venv-audit/.ready: infra/audit.lock
	@test -x .venv-audit/bin/python || $(PYTHON) -m venv .venv-audit
	@.venv-audit/bin/pip install -q $(PIP_ARGS) --require-hashes -r infra/audit.lock
	@touch $@

.venv-docs/.ready: docs/site.lock
	@test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	@.venv-docs/bin/pip install -q $(PIP_ARGS) --require-hashes -r docs/site.lock
	@touch $@

docs: setup .venv-docs/.ready ## These pages as a site, every link checked: build/site/index.html
	@$(BIN)/python docs/reference.py
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build

audit: .venv-audit/.ready ## Look every pinned version up among the published holes; needs pypi.org itself, not a mirror
	@for lock in requirements.lock requirements-dev.lock serving/requirements.lock serving/triton.lock; do \
	  echo "$$lock"; .venv-audit/bin/pip-audit --strict --disable-pip --no-deps -r $$lock || exit 1; done

sbom: setup .venv-audit/.ready ## What .venv and .venv-serve are made of, with licences, as CycloneDX: sbom/*.cdx.json
	@mkdir -p sbom
	@.venv-audit/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml -o sbom/lorefuse.cdx.json .venv
	@.venv-audit/bin/cyclonedx-py environment --output-reproducible -o sbom/serving.cdx.json .venv-serve
	@ls sbom/*.cdx.json

clean: ## Remove environments, caches and served models
	@test ! -x $(BIN)/lorefuse || $(BIN)/lorefuse down
	@rm -rf .venv .venv-serve .venv-audit .venv-docs .lorefuse sbom build
