# ECHO control room
# `make run` and `make test` each set up what they need; the second time they set up nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)
SOURCES := $(shell find echo_core echo_tui -name '*.py' 2>/dev/null)

ifdef UV
VENV_COMMAND = $(UV) venv --quiet --allow-existing --python "$(PYTHON)" $(VENV)
INSTALL = $(UV) pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt
else
VENV_COMMAND = $(PYTHON) -m venv $(VENV)
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --compile -c constraints.txt
endif

.DEFAULT_GOAL := help
.PHONY: help run test lint chaos bench screenshots snapshots clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo '  ARGS="..." is handed on: make run ARGS="--delay 0", make test ARGS="tests/unit"'
	@echo '  PYTHON=python3.12 chooses the Python (3.11 or newer) the first time'

run: $(VENV)/.compiled ## the control room
	@$(BIN)/echo-tui $(ARGS)

test: $(VENV)/.dev $(VENV)/.compiled ## all tests, on real servers of their own
	@$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.dev ## style, types, and that the core knows no screen
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

chaos: $(VENV)/.dev $(VENV)/.compiled ## a storm of faults over an organisation at work, then an audit
	@$(BIN)/python -m tests.chaos $(ARGS)

bench: $(VENV)/.dev $(VENV)/.compiled ## every benchmark, each beside its raw floor, as JSON
	@for benchmark in benchmarks/*.py; do $(BIN)/python $$benchmark || exit 1; done

screenshots: $(VENV)/.dev ## the pictures of the README
	$(BIN)/python -m tests.ui.screenshots screenshots

snapshots: $(VENV)/.dev ## accept what the screens look like now
	$(BIN)/python -m pytest tests/ui -n 0 --snapshot-update

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "ECHO needs Python 3.11 or newer: make PYTHON=python3.12 run" >&2; exit 2; }
	@$(VENV_COMMAND)
	@touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	@echo "Installing ECHO into $(VENV) (once, about a minute)..." >&2
	@$(INSTALL) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	@echo "Installing the test tools into $(VENV) (once)..." >&2
	@$(INSTALL) -e '.[dev]'
	@touch $@

# Every process of the organisation imports these: compiled once, each start is up to four times as fast.
$(VENV)/.compiled: $(VENV)/.installed $(SOURCES)
	@$(BIN)/python -m compileall -q echo_core echo_tui
	@touch $@

clean: ## remove the environment and what was built
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
