# Everything runs in .venv, which the first target that needs it makes; only Python (3.10 or newer) and pip are wanted.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
JOBS ?= auto
TORCH ?= torch==2.13.0

.DEFAULT_GOAL := help
.PHONY: help demo test test-long check format schema docs bench clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

$(VENV)/.user: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet '$(TORCH)'
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: $(VENV)/.user  ## convert a trained generator of faces and prove it equal; table and images in demo/
	$(BIN)/python -m splitdeconv.cli.demo demo

test: $(VENV)/.dev check  ## lint, types, import rules, and all tests but the long ones
	$(BIN)/python -m pytest -n $(JOBS) -q

test-long: $(VENV)/.dev  ## the hypothesis and fuzz runs of many minutes
	$(BIN)/python -m pytest -n $(JOBS) -q -m long

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

bench: $(VENV)/.dev  ## the project's own benchmarks; run on an idle machine, tables and times in bench-out/
	@mkdir -p bench-out
	$(BIN)/python benchmarks/onnxruntime_float32.py --json bench-out/onnxruntime_float32.json | tee bench-out/onnxruntime_float32.txt
	$(BIN)/python benchmarks/openvino_float32.py --json bench-out/openvino_float32.json | tee bench-out/openvino_float32.txt
	$(BIN)/python -m benchmarks.upsampling | tee bench-out/upsampling.txt
	$(BIN)/python benchmarks/crops.py | tee bench-out/crops.txt
	$(BIN)/python benchmarks/quantised_layers.py | tee bench-out/onnxruntime_int8.txt
	$(BIN)/python benchmarks/quantised_layers.py --target openvino | tee bench-out/openvino_int8.txt
	$(BIN)/python -m benchmarks.tflite_layers --target litert --kind float32 | tee bench-out/litert_float32.txt
	$(BIN)/python -m benchmarks.tflite_layers --target litert --kind int8_per_channel | tee bench-out/litert_int8.txt
	$(BIN)/python -m benchmarks.tflite_layers --target litert --kind int8_per_channel --keras | tee bench-out/litert_keras.txt
	$(BIN)/python -m benchmarks.tflite_layers --target vela | tee bench-out/vela.txt
	$(BIN)/python -m benchmarks.zoo_exports | tee bench-out/zoo_exports.txt
	$(BIN)/python benchmarks/accelerators.py | tee bench-out/accelerators.txt
	$(BIN)/python benchmarks/conversion.py | tee bench-out/conversion.txt

clean:  ## remove the environment and everything made
	rm -rf $(VENV) build dist demo bench-out
