# Everything a newcomer needs: make run, make test. Python 3.11 or newer: make run PYTHON=python3.12
PYTHON ?= python3
ENV := .venv
BIN := $(ENV)/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help env run test long fast lint format clean

help:  ## This list
	@grep -E '^[a-z]+:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*  ## (.*)/  make \1\t\2/' | expand -t 16
	@echo '  ARGS="..." is handed on: make run ARGS="model=ornn trainer.max_epochs=100"'

env: $(ENV)/installed  ## Make the environment in .venv

$(ENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'Python 3.11 or newer is needed: make $(MAKECMDGOALS) PYTHON=python3.12'; exit 1; }
	$(PYTHON) -m venv $(ENV)
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	@touch $@

run: env  ## Train an LSTM on sine waves and watch it learn to oscillate (a few minutes)
	$(BIN)/python train.py $(ARGS)

PARALLEL := -n logical --maxprocesses 8 --dist worksteal

test: env  ## All tests but a few long ones, on all processors
	$(BIN)/python -m pytest $(PARALLEL) -m "not long" $(ARGS)

long: env  ## The long ones
	$(BIN)/python -m pytest $(PARALLEL) -m long $(ARGS)

fast: env  ## All tests but the slow ones
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow" $(ARGS)

lint: env  ## Style, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

format: env  ## Put the style right
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## Remove the environment and what tools left behind; runs/ and sweeps/ stay
	rm -rf $(ENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
