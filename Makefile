# Installs into .venv; compiled kernels and decoded videos go to the user's cache folder. `make demo` and `make test` work in a
# fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LINKS := build/types/adcgs
N ?= 100000

.PHONY: install demo test lint benchmark fuzz conformance clean

install: $(STAMP)

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "adcgs needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[encode,torchac,plot,lpips,dev]'
	@touch $@

demo: install
	$(BIN)/python examples/demo.py

test: lint
	$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff check .
	@mkdir -p $(LINKS) && ln -sfn $(CURDIR)/cli $(LINKS)/cli && for f in codec/*; do ln -sfn $(CURDIR)/$$f $(LINKS)/; done
	MYPYPATH=build/types $(BIN)/mypy -p adcgs
	MYPYPATH=build/types:benchmarks $(BIN)/mypy benchmarks/*.py

benchmark: install
	$(BIN)/python benchmarks/rasterizer.py
	$(BIN)/python benchmarks/scenes.py examples --minutes 2 --output out/benchmark

conformance: install
	$(BIN)/python -m tests.conformance

fuzz: install
	$(BIN)/python -m tests.fuzz $(N)

clean:
	rm -rf $(VENV) build out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
