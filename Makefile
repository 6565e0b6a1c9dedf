# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo test setup clean

setup: $(VENV)/.installed

$(VENV)/.installed: requirements.txt setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet --editable ".[test]"
	touch $@

# ENOTO-CQL on the data set that ships with the package, then online in MuJoCo.
demo: setup
	$(VENV)/bin/enoto train --preset=demo --out=runs/demo

test: setup
	$(RUN) -m ruff check .
	$(RUN) -m pytest -n 2 --dist=worksteal

clean:
	rm -rf $(VENV) build *.egg-info
