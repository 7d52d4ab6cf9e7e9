# The tasks of the project. `make demo` and `make test` need python3, make and a package index, nothing else.
.DEFAULT_GOAL := help
.PHONY: help venv demo test test-all fuzz faults lint format types bench study clean
.DELETE_ON_ERROR:

usable = import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	"$$p" -c '$(usable)' >/dev/null 2>&1 && { command -v "$$p"; break; }; done)
BIN := .venv/bin
READY := .venv/.ready
EVENTS ?= 20000
ONLY ?=
export MPLBACKEND := Agg

help:
	@echo "make demo [EVENTS=n]  simulate, search, report: the whole job on 20,000 events"
	@echo "make test             the fast tests        make test-all  the slow ones too"
	@echo "make bench [ONLY=x]   measured speed        make study [ONLY=x]  physics studies"
	@echo "make faults [N=20]    kills and other faults while a search runs, each rerun compared"
	@echo "make fuzz [ONLY=x] [N=n]  mutated files of every format that is read"
	@echo "make venv | lint | format | types | clean"

venv: $(READY)

# The stamp is written last: a venv that was interrupted half-way is made again.
$(READY): constraints.txt pyproject.toml
	@[ -n "$(PYTHON)" ] || { echo "make: needs Python 3.11, 3.12 or 3.13 with ensurepip (Debian: apt install python3 python3-venv), or PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c '$(usable)' 2>/dev/null || { echo "make: $(PYTHON) is not Python 3.11 to 3.13 with ensurepip (Debian: apt install python3-venv)" >&2; exit 1; }
	rm -rf .venv build
	"$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,dev]"
	touch $@

demo: $(READY)
	@EVENTS=$(EVENTS) $(BIN)/python benchmarks/demo.py

# Two processes of one thread each: the files of tests are shared out whole, so that what a file prepares once is prepared once.
JOBS ?= 2
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

# MARK=slow leaves out what make test has just run.
MARK ?= slow or not slow
test-all: $(READY)
	$(BIN)/python -m pytest -m "$(MARK)"

fuzz: $(READY)
	@$(BIN)/python tests/campaigns/fuzz.py --only "$(ONLY)" $(if $(N),-n $(N))

faults: $(READY)
	@$(BIN)/python tests/campaigns/faults.py $(or $(N),20)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The root is the package, which mypy sees through a link only.
types: $(READY)
	@mkdir -p .venv/src && ln -sfn ../.. .venv/src/hunch
	MYPYPATH=.venv/src $(BIN)/mypy -p hunch.hdf5 -p hunch.samples -p hunch.processors -p hunch.models -p hunch.analysis -p hunch.config -p hunch.workflow \
		-p hunch.cli -m hunch -m hunch.table -m hunch.tabular -m hunch.folds -m hunch.files -m hunch.documents -m hunch.lock -m hunch.pieces -m hunch.workers -m hunch.errors

bench: $(READY)
	@$(BIN)/python -m benchmarks $(ONLY)

study: $(READY)
	@$(BIN)/python -m benchmarks --study $(ONLY)


clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache demo
