# On a fresh machine, `make bench` runs the main job and `make test` runs the tests. Both need Python >= 3.11 and
# install everything else into .venv. The targets start, seed, psql and stop are for trying a log by hand; stress is
# the seed's stress test.
#
#   make bench args="--scale 2 --read-batch 1000,100"
#   make test strict=1          a skipped test is a failure, as in CI
#   make test jobs=8            run 8 tests at a time
#   make stress scale=10        the seed's stress test
#   make start port=5433        start a Postgres with the log installed, on this port

VENV ?= .venv
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
args ?= --scale 10 --insert-batch 10000 --read-batch 1000
scale ?= 10
# Many tests wait for most of their time, so three at a time keep two processors busy.
jobs ?= 3

.PHONY: bench test start seed psql stop stress check schema coverage

bench: $(VENV)/runs
	@$(VENV)/bin/python -m bench run $(args)

test: check
	$(VENV)/bin/python -m pytest --numprocesses $(jobs) --dist loadfile --no-loadscope-reorder $(if $(strict),--no-skips)

check: $(VENV)/tests
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

start: $(VENV)/runs
	@$(VENV)/bin/python -m bench start $(if $(port),--port $(port))

seed: $(VENV)/runs
	@$(VENV)/bin/python -m bench seed

psql: $(VENV)/runs
	@$(VENV)/bin/python -m bench psql

stop: $(VENV)/runs
	@$(VENV)/bin/python -m bench stop

stress: $(VENV)/runs
	@$(VENV)/bin/python -m bench run --scale $(scale) --insert-batch 10000 --read-batch 1000,100,10

# Run this after a change to the models in bench/results/models.py.
schema: $(VENV)/tests
	$(VENV)/bin/python -c 'from bench.results.models import json_schema_text; print(json_schema_text(), end="")' \
		> results/bench.result-2.schema.json

coverage: $(VENV)/tests
	$(VENV)/bin/coverage run -m pytest
	$(VENV)/bin/coverage report

$(VENV)/runs: pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or later is needed; PYTHON=... names one" >&2; exit 2; }
	@echo "setting up $(VENV) with $(PYTHON)" >&2
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/tests: $(VENV)/runs
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@
