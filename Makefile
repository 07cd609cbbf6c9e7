# Everything runs in .venv, which the first target that needs it makes; only Python (3.10 or newer) and pip are wanted.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
JOBS ?= auto
# Most of what is installed is never imported, and compiling it takes two minutes: what is imported is compiled then, once, in
# a folder of its own, even where the environment forbids that (and each of the tests' processes would do it again).
INSTALL = -m pip install --quiet --no-compile
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX = $(abspath $(VENV))/pycache
PYTEST = -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -q
MINUTES ?= 7
TORCH ?= torch==2.13.0
LOWEST = onnxruntime openvino litert vela report dask parquet paper zigzag demo
CORE = tests/deconv tests/lowerings tests/results tests/choosing tests/measuring tests/accelerator

.DEFAULT_GOAL := help
.PHONY: help demo test test-long attack test-lowest test-pythons release check format schema docs docs-light bench clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

$(VENV)/.user: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(INSTALL) --editable '.[demo]'
	@touch $@

$(VENV)/.lowest: pyproject.toml $(VENV)/.dev
	$(PYTHON) -m venv $(VENV)/lowest
	PYTHONPATH=src:. $(BIN)/python -m tests.lowest $(LOWEST) > $(VENV)/lowest/constraints.txt
	$(VENV)/lowest/bin/python $(INSTALL) --constraint $(VENV)/lowest/constraints.txt \
	  --editable '.[$(shell echo $(LOWEST) | tr " " ",")]' expecttest html5lib hypothesis pytest pytest-xdist sybil
	@touch $@

$(VENV)/.dev: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(INSTALL) '$(TORCH)' --editable '.[dev]'
	@touch $@

$(VENV)/.docs: pyproject.toml
	$(PYTHON) -m venv $(VENV)/docs
	$(VENV)/docs/bin/python $(INSTALL) --editable '.[docs]'
	@touch $@

demo: $(VENV)/.user  ## convert a trained generator of faces and prove it equal; table and images in demo/
	$(BIN)/splitdeconv demo demo

test: $(VENV)/.dev check  ## lint, types, import rules, and all tests but the long ones
	$(BIN)/python $(PYTEST)

test-lowest: $(VENV)/.lowest  ## the tests with the oldest versions of all packages that are allowed, without torch
	$(VENV)/lowest/bin/python $(PYTEST)

test-pythons: release  ## the wheel and the core tests on every Python from 3.10 to 3.13 that is there
	for version in 3.10 3.11 3.12 3.13; do \
	  python$$version --version > /dev/null 2>&1 || { echo "no Python $$version here"; continue; }; \
	  python$$version -m venv $(VENV)/$$version && \
	  $(VENV)/$$version/bin/python -m pip install --quiet "$$(echo dist/*.whl)[accelerator]" pytest hypothesis && \
	  $(VENV)/$$version/bin/python -m pytest -q $(CORE) || exit 1; \
	done

release: $(VENV)/.dev  ## the source distribution and the wheel in dist/, checked as an index would
	rm -rf dist
	$(BIN)/python -m build --quiet
	$(BIN)/python -m twine check --strict dist/*

test-long: $(VENV)/.dev  ## the hypothesis and fuzz runs, and a sample of MINUTES=7 of each kind of attack together
	MINUTES=$(MINUTES) $(BIN)/python $(PYTEST) -m long

attack: $(VENV)/.dev  ## the whole attack (tests/attack), for many hours; it may be stopped, and goes on where it was
	$(BIN)/python -m tests.attack attack-out

check: $(VENV)/.dev  ## lint, types and import rules only
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy --no-error-summary
	$(BIN)/lint-imports --no-cache > .import-report 2>&1 || { cat .import-report; rm .import-report; exit 1; }
	@rm -f .import-report

format: $(VENV)/.dev  ## format and fix what can be fixed
	$(BIN)/ruff format --quiet .
	$(BIN)/ruff check --fix --quiet .

schema: $(VENV)/.dev  ## the JSON Schema of what --json writes, again from the dataclasses
	$(BIN)/python -m splitdeconv.codec > .schema && mv .schema src/splitdeconv/record.schema.json

docs: $(VENV)/.dev  ## the documentation as a site in build/docs; a broken link or reference is an error
	$(BIN)/sphinx-build --quiet --fresh-env --write-all --fail-on-warning --keep-going docs build/docs

docs-light: $(VENV)/.docs  ## the same in a small environment without PyTorch, whose functions are left out
	$(VENV)/docs/bin/sphinx-build --quiet --fresh-env --write-all --fail-on-warning --keep-going docs build/docs

bench: $(VENV)/.dev  ## the project's own benchmarks; run on an idle machine, tables and times in bench-out/
	@mkdir -p bench-out
	$(BIN)/python -m benchmarks.onnxruntime_float32 --json bench-out/onnxruntime_float32.json | tee bench-out/onnxruntime_float32.txt
	$(BIN)/python -m benchmarks.openvino_float32 --json bench-out/openvino_float32.json | tee bench-out/openvino_float32.txt
	$(BIN)/python -m benchmarks.upsampling | tee bench-out/upsampling.txt
	$(BIN)/python -m benchmarks.resize_convolutions | tee bench-out/resize_convolutions.txt
	$(BIN)/python -m benchmarks.crops | tee bench-out/crops.txt
	$(BIN)/python -m benchmarks.rearrangements | tee bench-out/rearrangements.txt
	$(BIN)/python -m benchmarks.quantised_layers | tee bench-out/onnxruntime_int8.txt
	$(BIN)/python -m benchmarks.quantised_layers --target openvino | tee bench-out/openvino_int8.txt
	$(BIN)/python -m benchmarks.tflite_layers --target litert --kind float32 | tee bench-out/litert_float32.txt
	$(BIN)/python -m benchmarks.tflite_layers --target litert --kind int8_per_channel | tee bench-out/litert_int8.txt
	$(BIN)/python -m benchmarks.tflite_layers --target litert --kind int8_per_channel --keras | tee bench-out/litert_keras.txt
	$(BIN)/python -m benchmarks.tflite_layers --target vela | tee bench-out/vela.txt
	$(BIN)/python -m benchmarks.zoo_exports | tee bench-out/zoo_exports.txt
	$(BIN)/python -m benchmarks.accelerators | tee bench-out/accelerators.txt
	$(BIN)/python -m benchmarks.conversion | tee bench-out/conversion.txt

clean:  ## remove the environment and everything made
	rm -rf $(VENV) build dist demo bench-out attack-out
