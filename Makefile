# One way to do each thing. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?= demo-work
TEGAKARI_PORT ?= 8765
# One thread per core: more threads than cores slow each other down.
export OMP_NUM_THREADS ?= $(shell nproc 2>/dev/null || echo 2)
# An hour is the measure of the memory's growth.
SOAK_SECONDS ?= 3600
TEST_JOBS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 4 ? n + 1 : 4)))

.DEFAULT_GOAL := help
.PHONY: help demo demo-index serve test soak check audit lock format bench generate screenshots families docs clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

# The environment: exact versions of everything, so that what was tested is what runs.
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tegakari needs Python 3.11 or later")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

$(VENV)/lint-ready: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[lint]'
	touch $@

demo: $(VENV)/ready ## a real small pipeline for two models, then the API on 127.0.0.1:$(TEGAKARI_PORT)
	$(BIN)/tegakari demo $(DEMO) --port $(TEGAKARI_PORT)

demo-index: $(VENV)/ready ## the same without serving
	$(BIN)/tegakari demo $(DEMO) --no-serve

serve: $(VENV)/ready ## serve the demo's store
	$(BIN)/tegakari serve --store $(DEMO)/store --port $(TEGAKARI_PORT)

# One process more than cores, because some tests wait, with one thread each; whole files, so that the fixtures of a file are made once.
test: $(VENV)/ready ## all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadfile

$(VENV)/soak-ready: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[ray]'
	touch $@

soak: $(VENV)/soak-ready ## the long survival tests, then all loads at once for SOAK_SECONDS, with curves
	OMP_NUM_THREADS=1 TEGAKARI_SOAK=1 $(BIN)/python -m pytest tests/soak tests/benchmarks/test_smallest.py tests/security/test_hostile_runs.py tests/indexer/test_processes.py tests/indexer/test_disk_full.py tests/store/disk/test_publish.py tests/store/test_reader.py tests/fuzz
	$(BIN)/python -m benchmarks.soak --seconds $(SOAK_SECONDS)

check: $(VENV)/lint-ready ## linter, formatter, type checker; generated and vendored files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python -m tools.generate_client --check
	$(BIN)/python -m tools.generate_docs --check
	$(BIN)/python -m tools.vendor --check

$(VENV)/supply-ready: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[supply]'
	touch $@

audit: $(VENV)/supply-ready ## known vulnerabilities of the pinned packages; ADVISORIES=FILE compares offline with OSV's
	$(BIN)/python -m tools.audit $(if $(ADVISORIES),--advisories $(ADVISORIES))

lock: $(VENV)/supply-ready ## requirements of the image with hashes, and its bill of materials, from constraints.txt
	$(BIN)/python -m tools.lock

format: $(VENV)/lint-ready ## apply the automatic fixes of the linter and the formatter
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: bench-encode bench-index bench-growth bench-peers ## benchmarks of encoding and indexing

$(VENV)/bench-ready: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	touch $@

bench-store: $(VENV)/bench-ready ## the store at the study's scale, beside PostgreSQL
	$(BIN)/python -m benchmarks.store

bench-ray-overhead: $(VENV)/soak-ready

bench-%: $(VENV)/ready
	$(BIN)/python -m benchmarks.$(subst -,_,$*)

generate: $(VENV)/ready ## write the files that come from other files: the synchronous client, pages of docs/
	$(BIN)/python -m tools.generate_client
	$(BIN)/python -m tools.generate_docs

screenshots: $(VENV)/ready ## pictures of the explorer's pages of a running `make serve`, in screenshots/
	$(BIN)/python -m tools.screenshots http://127.0.0.1:$(TEGAKARI_PORT) screenshots

families: $(VENV)/ready ## try every family of classifiers and write the tables of docs/compatibility.md
	$(BIN)/python -m tools.generate_compatibility

$(VENV)/docs-ready: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

docs: $(VENV)/docs-ready generate ## the documentation as a site that needs no network, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

clean: ## remove what the demo and the documentation made
	rm -rf $(DEMO) site screenshots
