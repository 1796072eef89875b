# Each target does its own set-up: `make demo` and `make test` work on a machine that has Python and make, and no more.
# PYTHON names the interpreter that .venv is made with.
PYTHON ?= python3
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Some machines forbid Python to keep what it compiled; importing torch anew for each process would cost seconds.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --no-input --no-compile --constraint constraints.txt
FOLDERS := consumers daemon sql
SOURCES := $(shell find $(FOLDERS) -name __pycache__ -prune -o -type f -print)

define REQUIREMENTS
import tomllib
declared = tomllib.load(open("pyproject.toml", "rb"))
lists = [declared["build-system"]["requires"], declared["project"]["dependencies"]]
print(*sum(declared["project"]["optional-dependencies"].values(), sum(lists, [])), sep="\n")
endef
export REQUIREMENTS

.PHONY: help demo test check browser bench-adapter bench-gate bench-ingest bench-propensities bench-judgments bench-train bench-encode bench-recipes bench-index bench-forgetting bench-promotion format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: .venv/.built ## watch a model get better from clicks, on the Human Phenotype Ontology
	RELEVANCED_HOME=.demo $(BIN)/relevanced demo

test: check browser ## the static checks, then every test against the built wheel
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile tests/unit tests/integration
	$(BIN)/python -m pytest tests/story

check: .venv/.built ## the static checks: style, types, import contracts, unused code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@# mypy gets the folders under their import names, so that it names the files a developer edits
	@rm -rf build/tree && mkdir -p build/tree/relevanced
	@for folder in $(FOLDERS); do ln -s ../../../$$folder build/tree/relevanced/$$folder; done
	$(BIN)/mypy build/tree/relevanced
	$(BIN)/lint-imports
	$(BIN)/vulture

browser: # Chromium, for the tests that look at pages; without it they are skipped
	@if ! command -v chromium-headless-shell chromium google-chrome >/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing Chromium, which the tests of pages need:"; \
	    { apt-get -qq update && apt-get -qq install --yes --no-install-recommends chromium-headless-shell; } >/dev/null; \
	  else false; fi \
	  || echo "The tests of pages are skipped: there is no Chromium, and it could not be installed (as root: apt-get install chromium-headless-shell)." >&2; \
	fi

bench-propensities: .venv/.built ## how far off the estimated position bias is, over seeds and curves
	$(BIN)/python -m tests.bench.propensities

bench-judgments: .venv/.built ## evidence and judgments of 5 million simulated sessions, all of them and a tenth more
	$(BIN)/python -m tests.bench.judgments

bench-gate: .venv/.built ## the statistics of a verdict over 10,000 queries, in a process that begins with nothing
	$(BIN)/python -m tests.bench.gate

bench-adapter: .venv/.built ## what a query-side adapter brings, of DATA=DIR in BEIR layout
	$(BIN)/python -m tests.bench.adapter $(DATA)

bench-ingest: .venv/.built ## 300,000 records from a broker into the log store, beside a bare poll
	$(BIN)/python -m tests.bench.ingest

bench-train: .venv/.built ## the training loop beside sentence-transformers' own
	$(BIN)/python -m tests.bench.train

bench-encode: .venv/.built ## texts to rows of vectors in Postgres, beside SentenceTransformer.encode alone
	$(BIN)/python -m tests.bench.encode

bench-forgetting: .venv/.built ## what versions forget, of DATA="DOMAIN GENERAL" in BEIR layout: from base on all history, or from live
	$(BIN)/python -m tests.bench.forgetting $(DATA)

bench-index: .venv/.built ## 100,000 given vectors to an index, beside a bare COPY and CREATE INDEX
	$(BIN)/python -m tests.bench.index

bench-promotion: .venv/.built ## 20,000 searches over two replicas while versions are prepared, promoted and rolled back
	$(BIN)/python -m tests.bench.promotion

bench-recipes: .venv/.built ## DATA="DIRECTORY...": NDCG@10 of both loops on data sets in BEIR layout, three seeds
	$(BIN)/python -m tests.bench.recipes $(DATA) --seeds 3 --recipes "default;complete rows;trainer;matryoshka"

format: .venv/.built ## put the code into the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove all that make has made: .venv, the demo's state, builds and caches
	rm -rf .venv .demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# The dependencies. pip is quiet about all but the large files and its errors: it would warn of each package that a
# local index in the user's pip.conf does not have.
.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "relevanced needs Python 3.11 or newer, and $(PYTHON) is not; name one, as in: make PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make a virtual environment; install its venv (Debian, Ubuntu: apt-get install python3-venv)." >&2; exit 2; }
	@echo "Setting up .venv; the first time takes a few minutes:"
	@$(PYTHON) -m venv .venv; \
	$(PIP) --progress-bar off --requirement <($(BIN)/python -c "$$REQUIREMENTS") 2> >(grep -v '^WARNING: Location' >&2) \
	  | sed -u -n -E -e 's/^ *(Downloading|Using cached) ([^ ]*\/)?([A-Za-z0-9_]+)-([0-9][^-]*)-.*( \(([0-9]{2,}\.[0-9] M|[0-9.]+ G)B\))$$/  \3 \4\5/p' \
	      -e 's/^Installing collected packages.*/  unpacking all of it/p'; \
	echo "Set-up took $$SECONDS s."
	@touch $@

# The project, as the wheel that a user would get. What an earlier build left behind would go into it, so that goes first.
.venv/.built: .venv/.installed $(SOURCES)
	@rm -rf build/lib
	@$(PIP) --quiet --quiet --no-deps --no-build-isolation .
	@touch $@
