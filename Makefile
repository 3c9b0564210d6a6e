# `make quickstart` and `make test` set up everything they need in .venv.

PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin
BACKENDS ?= torch jax tensorflow
# Test files side by side; each with one thread, or they would wait for each other.
JOBS ?= 2
PIP := $(RUN)/python -m pip install --quiet --disable-pip-version-check
# Without a pin, pip takes torch with several gigabytes of CUDA libraries.
TORCH ?= torch==2.13.0

# The page of the grid explorer is bundled by node; without npm its tests are skipped.
NODE_MODULES := explorer/node_modules/.stamp

.PHONY: help quickstart test test-lowest lint benchmark explorer needs-npm docs guides clean

help:
	@echo "make quickstart   fine-tune the bundled preset, and the same network from scratch"
	@echo "make test         lint and the whole suite on $(BACKENDS)"
	@echo "make benchmark    steps of every method beside transformers and KerasHub: table and picture"
	@echo "make explorer     the catalogue as one page: build/explorer/index.html; needs node and npm"
	@echo "make docs         the documentation as a site: build/site/index.html; needs node and npm"
	@echo "make guides       run all guides, for the results on their pages: minutes each"
	@echo "make clean        remove $(VENV)"

# KerasHub brings TensorFlow, so the quick start needs no backend of its own.
$(VENV)/quickstart.stamp: pyproject.toml
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

$(VENV)/test.stamp: pyproject.toml
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH) --editable ".[jax,torch,tensorflow,test]"
	touch $@

quickstart: $(VENV)/quickstart.stamp
	KERAS_BACKEND=tensorflow TF_CPP_MIN_LOG_LEVEL=3 $(RUN)/python guides/quickstart.py

lint: $(VENV)/test.stamp
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .

$(NODE_MODULES): explorer/package-lock.json
	npm --prefix explorer ci --silent
	touch $@

# First: the installation takes minutes.
needs-npm:
	@command -v npm > /dev/null && command -v node > /dev/null || { \
		echo "The explorer needs node and npm (Debian: apt install nodejs npm)." >&2; exit 1; }

explorer: needs-npm $(VENV)/quickstart.stamp $(NODE_MODULES)
	mkdir -p build/explorer
	$(RUN)/mimzoo list --json > build/explorer/entries.json
	node explorer/build.mjs build/explorer/entries.json presets build/explorer

# With the results of `make guides`, if that was run.
docs: explorer $(VENV)/docs.stamp
	$(RUN)/python docs/make_pages.py build/pages
	$(RUN)/zensical build --strict --clean
	$(RUN)/python docs/make_pages.py build/pages build/site

guides: $(VENV)/quickstart.stamp
	$(RUN)/python docs/guide_pages.py guides/*.py

$(VENV)/docs.stamp: pyproject.toml
	$(PIP) --editable ".[docs]"
	touch $@

# Without npm, or a registry of its packages, tests of the explorer's page are skipped.
test: lint
	@command -v npm > /dev/null && $(MAKE) --no-print-directory $(NODE_MODULES) || true
	@set -e; for backend in $(BACKENDS); do \
		echo "== $$backend"; \
		KERAS_BACKEND=$$backend OMP_NUM_THREADS=1 $(RUN)/python -m pytest \
			--numprocesses $(JOBS) --dist loadfile --durations 5; \
	done

benchmark: $(VENV)/test.stamp
	$(RUN)/python -m benchmarks

clean:
	rm -rf $(VENV)

# The lower bounds of pyproject.toml, tried on one backend.
test-lowest:
	$(MAKE) test VENV=.venv-lowest BACKENDS=torch PIP="$(CURDIR)/.venv-lowest/bin/python -m pip install --quiet --constraint tests/lowest.txt"
