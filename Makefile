# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo test test-fast setup clean

setup: $(VENV)/.installed

$(VENV)/.installed: requirements.txt setup.cfg pyproject.toml
	@$(PYTHON) -c '$(FITS)' 2> /dev/null || { echo "error: $(PYTHON) is not Python 3.11," \
	"3.12 or 3.13; name one that is: make $(or $(MAKECMDGOALS),setup) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet --editable ".[test]"
	touch $@

# ENOTO-CQL on the data set that ships with the package, then online in MuJoCo.
demo: setup
	$(VENV)/bin/enoto train --budget=demo --out=runs/demo

test: setup
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	$(RUN) -m pytest -n 2 --dist=worksteal

# What catches most per second, in two minutes of two cores.
test-fast: setup
	$(RUN) -m ruff check .
	$(RUN) -m pytest -n 2 --dist=worksteal @tests/fast.txt

clean:
	rm -rf $(VENV) build *.egg-info
