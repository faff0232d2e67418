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

.PHONY: run test lint chaos bench screenshots snapshots clean

run: $(VENV)/.compiled
	@$(BIN)/echo-tui $(ARGS)

test: $(VENV)/.dev $(VENV)/.compiled
	@$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

chaos: $(VENV)/.dev $(VENV)/.compiled
	@$(BIN)/python -m tests.chaos $(ARGS)

bench: $(VENV)/.dev $(VENV)/.compiled
	@for b in bus start panes; do $(BIN)/python benchmarks/$$b.py; done

screenshots: $(VENV)/.dev
	$(BIN)/python -m tests.ui.screenshots screenshots

snapshots: $(VENV)/.dev
	$(BIN)/python -m pytest tests/ui --snapshot-update

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

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
