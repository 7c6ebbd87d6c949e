# The commands of the project; CONTRIBUTING.md explains them. Everything happens in .venv and build/.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

SOURCES := $(shell find _ext src servers -type f -not -name '*.pyc') setup.py pyproject.toml
JOBS := $(shell nproc 2>/dev/null || echo 2)

.PHONY: help demo test bench bench-peers fuzz soak sanitize build clean

help:
	@echo 'make demo         build, serve the digits model, send it held-out digits'
	@echo 'make test         all tests, lint and types among them'
	@echo 'make bench        benchmarks beside their floors; ends with a table'
	@echo 'make bench-peers  install the servers that bench compares with, in build/peers'
	@echo 'make fuzz         long fuzzing of the C reader (clang)'
	@echo 'make soak         a million messages, a thousand swaps of models: nothing may grow'
	@echo 'make sanitize     the test suite under AddressSanitizer and UBSan'
	@echo 'make clean        remove what the others made'

# --- environment and build ------------------------------------------------------------------------------------

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade 'pip>=25.1'

$(VENV)/.runtime: pyproject.toml | $(BIN)/python
	@echo 'installing what the server needs ...'
	$(PIP) install --group build
	$(PIP) install $$($(BIN)/python tools/requirements.py onnx)
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/.runtime
	@echo 'installing what the tests need ...'
	$(PIP) install --group test
	$(PIP) install --no-deps graphpipe==1.0.4
	@touch $@

$(VENV)/.bench: pyproject.toml | $(VENV)/.test
	$(PIP) install --group bench
	@touch $@

# setuptools never removes a module that was deleted from its build folder; the extensions there are kept.
$(VENV)/.built: $(SOURCES) $(VENV)/.runtime
	@echo 'building tensorwire ...'
	@find build -path 'build/lib*' -name '*.py*' -delete 2>/dev/null || true
	$(PIP) install --no-build-isolation --no-deps --force-reinstall .
	@touch $@

build: $(VENV)/.built

# --- the two commands of the README ------------------------------------------------------------------------------

demo: $(VENV)/.built
	@$(BIN)/python tools/demo.py

test: $(VENV)/.built $(VENV)/.test
	$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

# --- the longer ones ------------------------------------------------------------------------------------------------

bench: $(VENV)/.built $(VENV)/.bench
	$(BIN)/python -m bench $(or $(ARGS),--plot)

# Servers of others, each in the environment that it wants: bench looks for them here or in $TENSORWIRE_PEERS.
bench-peers: | $(VENV)/.runtime
	@echo 'installing other servers in build/peers (700 MB) ...'
	$(PYTHON) -m venv build/peers/light
	$(PIP) --python build/peers/light install --group peer-servers
	$(PYTHON) -m venv build/peers/triton
	$(PIP) --python build/peers/triton install --group peer-triton

fuzz: $(VENV)/.built $(VENV)/.test
	$(MAKE) -C tests/fuzz run

soak: $(VENV)/.built $(VENV)/.test
	TENSORWIRE_SOAK=1000000 $(BIN)/python -m pytest --timeout 0 tests/codec/test_leaks.py tests/servers/test_faults.py tests/servers/test_model_soak.py

sanitize: $(VENV)/.test
	tools/sanitize.sh $(BIN)/python

clean:
	rm -rf build dist .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
