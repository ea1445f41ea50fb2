# `make study` and `make test` do everything from a fresh clone. `make help` lists the rest.
#
# .venv is made by tools/set_up.sh, and brought up to date when the pins change. Every command
# names the environment's own interpreter, so nothing needs to be activated or on PATH.

PYTHON ?=
STUDY ?= published-effects
OUT ?= output/$(STUDY)
PYTEST_WORKERS ?= 2
PYTEST_FLAGS ?=
UPGRADE ?=

venv_python := .venv/bin/python
ready := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help setup study test lint types pytest format constraints clean force

help: ## list the commands
	@echo "Commands (each sets up .venv first where it is needed):"
	@sed -n 's/^\([a-z]*\):.*## /\1 /p' Makefile | while read -r name what; do printf '  make %-12s %s\n' "$$name" "$$what"; done

setup: $(ready) ## make or update the environment in .venv; PYTHON=/path/to/python chooses the interpreter

# A copied folder carries the other folder's environment, and an interpreter may be uninstalled:
# then the date of the stamp says nothing, and set-up runs again.
ifneq ($(shell $(venv_python) -c 'print(open("$(ready)").read().strip())' 2>/dev/null),$(CURDIR))
$(ready): force
endif
$(ready): pyproject.toml constraints.txt tools/set_up.sh tools/find_python.sh
	@PYTHON='$(PYTHON)' sh tools/set_up.sh

study: $(ready) ## run the study STUDY into OUT (default: published-effects, embedded data, no download)
	@if [ -e '$(OUT)' ]; then rm -rf '$(OUT).previous' && mv '$(OUT)' '$(OUT).previous' && echo 'The previous output is kept in $(OUT).previous'; fi
	.venv/bin/vbceval study run '$(STUDY)' --out '$(OUT)'
	@test -f '$(OUT)/report.html' || { echo 'The study wrote no report.html into $(OUT).' >&2; exit 1; }
	@echo "Report: $$(cd '$(OUT)' && pwd)/report.html"

# Types are checked beside the tests: by themselves they leave all cores but one idle.
test: lint ## check style, types, tests and docstring examples
	@log=$$(mktemp); $(MAKE) --no-print-directory types >"$$log" 2>&1 & types=$$!; \
	$(MAKE) --no-print-directory pytest; tests=$$?; \
	wait $$types || { cat "$$log" >&2; tests=1; }; rm -f "$$log"; exit $$tests

lint: $(ready) ## ruff: rules and formatting
	$(venv_python) -m ruff check .
	$(venv_python) -m ruff format --check .

types: $(ready) ## mypy --strict on the package
	$(venv_python) -m mypy --strict vbceval

# One thread a worker: the libraries would otherwise start one a core in every worker. A file's
# tests stay in one worker, so that what its fixtures fit is fitted once; files in their order, since
# the longest have few tests and would come last.
pytest: export OMP_NUM_THREADS = 1
pytest: export OPENBLAS_NUM_THREADS = 1
pytest: export MKL_NUM_THREADS = 1
pytest: export NUMBA_NUM_THREADS = 1
pytest: $(ready) ## tests and docstring examples; PYTEST_FLAGS="-k name", VBCEVAL_SIM=full
	$(venv_python) -m pytest -n $(PYTEST_WORKERS) --dist loadfile --no-loadscope-reorder --doctest-modules $(PYTEST_FLAGS) vbceval tests

format: $(ready) ## let ruff rewrite the formatting
	$(venv_python) -m ruff check --fix .
	$(venv_python) -m ruff format .

constraints: $(ready) ## write constraints.txt again from pyproject.toml; UPGRADE=--upgrade for newest versions
	$(venv_python) -m uv pip compile pyproject.toml --extra dev --group setup $(UPGRADE) \
		--universal --python-version 3.12 --annotation-style line --quiet \
		--custom-compile-command 'make constraints' --output-file constraints.txt

clean: ## remove the environment, caches and build products; keeps output/
	rm -rf .venv .venv.working build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -type d -name __pycache__ -prune -exec rm -rf {} +
