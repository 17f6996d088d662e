# What each target does: make help
PYTHON ?= python3
AREA ?=
BIN := .venv/bin

# The libraries below would otherwise start a thread per core each, and Rust panics would print backtraces.
export POLARS_MAX_THREADS = 1
export RUST_BACKTRACE = 0

# Two processes; the tests of one file, and all that run a whole line, stay in one (tests/conftest.py).
SIDE_BY_SIDE := -n 2 --dist loadscope

.PHONY: help setup demo test test-unit check format bench chaos map lock clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

setup: ## make .venv with everything tidewire needs; does nothing when nothing has changed
	@$(PYTHON) bootstrap.py

demo: setup ## the whole pipeline against a simulated Alpaca, with a live screen; Ctrl-C ends it
	@$(BIN)/tidewire demo

test: setup ## every test
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

test-unit: setup ## the tests that need no servers
	$(BIN)/python -m pytest tests/unit $(SIDE_BY_SIDE)

check: setup ## format, lint, types, and who may import whom
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## rewrite the code in the house's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## measure, side by side; writes build/bench.json
	$(BIN)/python -m benchmarks

chaos: setup ## kill things and look whether anything is missing; AREA=... for a part; writes build/chaos.json
	$(BIN)/python -m tests.chaos.run --area "$(AREA)"

map: ## rewrite the file map in docs/design.md
	@$(PYTHON) docs/file_map.py

lock: setup ## choose newer packages and jars: rewrites requirements.lock and the locks of jars (needs uv)
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-header --upgrade --output-file requirements.lock
	$(BIN)/python -m tidewire.stack write-lock
	$(BIN)/python -m benchmarks.peers write-lock

clean: ## delete what was built; the data of the local stack stays (tidewire stack down --wipe)
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
