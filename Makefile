# Everything runs in an environment of its own, $(VENV), made from any Python >= 3.11.
# `make clean`, then `make PYTHON=/path/to/python3.12 test` takes another one.

PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11 python3.14,\
	$(shell $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(p))) python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
SOURCES := $(wildcard nbcluster tests benchmarks)
JOBS ?= 2
KERNELS := 6.31.0 7.3.0

.DEFAULT_GOAL := help
.PHONY: help demo lab test unit lint format bench clean print-python

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.examples ## run the tour headless and print its final table
	@echo "== running notebooks/01_tour.ipynb"
	@$(BIN)/nbcluster demo
	@echo "== 'make lab' opens the same notebook in JupyterLab"

lab: $(VENV)/.lab ## open the tour in JupyterLab
	@$(BIN)/jupyter lab notebooks/01_tour.ipynb

test: lint $(VENV)/.kernels ## formatting, lint, types, floors, and all tests
	@echo "== pytest: unit, simulation, contract, integration, notebooks"
	@$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder

unit: $(VENV)/.test ## only the tests that start no cluster
	@$(BIN)/python -m pytest -q tests/unit tests/simulation

lint: $(VENV)/.test ## ruff, mypy, import-linter
	@echo "== ruff format";  $(BIN)/ruff format --quiet --check --diff .
	@echo "== ruff check";   $(BIN)/ruff check --quiet .
	@echo "== mypy";         $(BIN)/mypy --no-error-summary $(SOURCES)
	@echo "== import-linter (the floors)"; $(BIN)/lint-imports --no-logo --config pyproject.toml

format: $(VENV)/.test ## format the source and mend what ruff can mend
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format .

bench: $(VENV)/.bench ## nbcluster beside its peers, in one table
	@$(BIN)/python -m benchmarks
	@$(BIN)/python -m benchmarks.views

clean: ## remove the environment, caches and what was built
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

print-python:
	@echo $(PYTHON)

# --------------------------------------------------------------------------- the environment

$(VENV)/.base:
	@command -v $(PYTHON) >/dev/null || \
		{ echo "nbcluster needs Python 3.11 or newer, and there is no '$(PYTHON)' here." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "nbcluster needs Python 3.11 or newer, but '$(PYTHON)' is $$($(PYTHON) -V 2>&1)." >&2; \
		  echo "Name another one: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }
	@echo "== making $(VENV) with $$($(PYTHON) -V 2>&1)"
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "No venv module: on Debian and Ubuntu 'apt install python3-venv'." >&2; exit 1; }
	@touch $@

# One stamp for each extra; pip runs again only when the dependencies may have changed.
$(VENV)/.%: $(VENV)/.base pyproject.toml
	@echo "== installing nbcluster[$*] (the first time takes a minute)"
	@$(PIP) install --editable '.[$*]'
	@touch $@

# Older kernels, which answer a front end in other ways: the notebook tests run with each of them.
$(VENV)/.kernels: $(VENV)/.test
	@for version in $(KERNELS); do \
		echo "== installing ipykernel $$version beside"; \
		$(PIP) install --no-deps --target $(VENV)/kernels/$$version ipykernel==$$version || exit 1; \
	done
	@touch $@

.PRECIOUS: $(VENV)/.base $(VENV)/.%
