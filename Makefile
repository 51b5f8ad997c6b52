# Two commands: `make demo` and `make test`. Each needs only Python >= 3.11 (with venv) and make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo mnist test test-all lint

demo: .venv/installed
	$(BIN)/scratchcard study digits --store runs/digits --report report.html

mnist: .venv/installed-data
	$(BIN)/scratchcard study mnist --store runs/mnist --report mnist.html

test: .venv/installed-test lint
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations=10

test-all: .venv/installed-test lint
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "heavy or not heavy" --durations=20

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"scratchcard needs Python 3.11 or newer, this is {sys.version.split()[0]}; run make with PYTHON=python3.11")'
	$(PYTHON) -m venv .venv

# constraints.txt pins what was tested; torch is pinned there to a release that has a CPU build
.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

.venv/installed-data: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[data]'
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[data,export,test]'
	touch $@
