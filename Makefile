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

.PHONY: help setup setup-dev demo test test-containers test-fast lint format bench scale up down ui compile experiments lock clean

help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready .venv-serve/.ready ## Make both environments from their locks

setup-dev: setup .venv/.ready-dev ## Also the tools for tests and lint

.venv/.ready: requirements.lock pyproject.toml
	@echo "Setting up .venv (torch, mlflow, feast, kfp, ...): a few minutes the first time"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/pip install -q $(PIP_ARGS) -r requirements.lock
	@$(BIN)/pip install -q $(PIP_ARGS) --no-deps -e .
	@touch $@

.venv/.ready-dev: requirements-dev.lock .venv/.ready
	@$(BIN)/pip install -q $(PIP_ARGS) -r requirements-dev.lock
	@touch $@

.venv-serve/.ready: serving/requirements.lock serving/triton.lock
	@echo "Setting up .venv-serve (Triton and onnxruntime)"
	@test -x .venv-serve/bin/python || $(PYTHON) -m venv .venv-serve
	@.venv-serve/bin/pip install -q $(PIP_ARGS) --no-deps -r serving/requirements.lock
	@.venv-serve/bin/pip install -q $(PIP_ARGS) --no-deps -r serving/triton.lock
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

lock: setup-dev ## Resolve the locks again from pyproject.toml
	@$(BIN)/pip-compile -q --upgrade --strip-extras --no-header --no-emit-find-links --no-emit-index-url --no-emit-options \
	  --no-emit-trusted-host --annotation-style=line -o requirements.lock pyproject.toml
	@$(BIN)/pip-compile -q --upgrade --strip-extras --no-header --no-emit-find-links --no-emit-index-url --no-emit-options \
	  --no-emit-trusted-host --annotation-style=line --extra dev -c requirements.lock -o requirements-dev.lock pyproject.toml
	@sed -i 's/+cpu//' requirements.lock requirements-dev.lock

clean: ## Remove environments, caches and served models
	@test ! -x $(BIN)/lorefuse || $(BIN)/lorefuse down
	@rm -rf .venv .venv-serve .lorefuse
