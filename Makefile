# Each verb does one thing; all of them set up `.venv` first when it is missing or out of date.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python -m fer_lightning
TEST_PROCESSES ?= 2
DEMO_RUN := experiments/teachers/RN18_resnet18_seed1337_demo_img64
DEMO_SECOND := experiments/teachers/RN10_resnet10t_seed1337_demo_img64_cross-entropy
DEMO_ENSEMBLE := experiments/ensembles/*_demo
DEMO_SOFTLABELS := experiments/softlabels/*_demo
DEMO_STUDENT := experiments/students/TINY_test_resnet_seed1337_demo_img48_kd

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint types check bench coverage-of-intervals format clean

help:  ## list the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.ready  ## make .venv with everything installed

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=<path>"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

datasets/generated/manifest.csv: | $(VENV)/.ready
	$(RUN) task=build_manifest

demo: setup datasets/generated/manifest.csv  ## the main job end to end on the generated set, in minutes
	@if [ -f $(DEMO_RUN)/onnx.json ]; then echo "already trained: $(DEMO_RUN) (remove it to train again)"; \
	else $(RUN) +experiment=demo run.on_existing=resume; fi
	$(RUN) task=evaluate evaluate.checkpoint=$(DEMO_RUN)/best.onnx evaluate.split=test
	@if [ -f $(DEMO_SECOND)/onnx.json ]; then echo "already trained: $(DEMO_SECOND)"; \
	else $(RUN) +experiment=demo_rn10 run.on_existing=resume; fi
	@if ls $(DEMO_ENSEMBLE)/ensemble.json >/dev/null 2>&1; then echo "already fused: $$(ls -d $(DEMO_ENSEMBLE))"; \
	else $(RUN) +experiment=demo_ensemble; fi
	@if ls $(DEMO_SOFTLABELS)/alignmentreport.json >/dev/null 2>&1; then echo "already exported: $$(ls -d $(DEMO_SOFTLABELS))"; \
	else $(RUN) task=export_softlabels softlabels.ensemble="$$(ls -d $(DEMO_ENSEMBLE))" run.tag=demo; fi
	$(RUN) task=inspect_softlabels inspect.softlabels="$$(ls -d $(DEMO_SOFTLABELS))"
	@if ls $(DEMO_ENSEMBLE)/ensemble.onnx >/dev/null 2>&1; then echo "already exported: $$(ls $(DEMO_ENSEMBLE)/ensemble.onnx)"; \
	else $(RUN) task=export_onnx export.run_dir="$$(ls -d $(DEMO_ENSEMBLE))"; fi
	@if [ -f $(DEMO_STUDENT)/onnx.json ]; then echo "already trained: $(DEMO_STUDENT)"; \
	else $(RUN) +experiment=demo_student distillation.softlabels="$$(ls -d $(DEMO_SOFTLABELS))" run.on_existing=resume; fi
	$(RUN) task=evaluate evaluate.checkpoint=$(DEMO_STUDENT)/best.onnx evaluate.split=test
	@echo
	@echo "Where to look next"
	@echo "  a run and its proof     $(DEMO_RUN)/  (alignmentreport.json, reliabilitymetrics.json, calibration.json)"
	@echo "  figures on test rows    experiments/evaluations/  (evaluation.json, predictions.parquet, reliability.png, slices.png)"
	@echo "  the ensemble            $$(ls -d $(DEMO_ENSEMBLE))/  (ensemble.json, ensemble_metrics.json, weight_search.json)"
	@echo "  soft labels             $$(ls -d $(DEMO_SOFTLABELS))/  (softlabels.npz, hash_manifest.json, sharpness.png)"
	@echo "  the student             $(DEMO_STUDENT)/  (distillation.json: who taught what; reliabilitymetrics.json)"
	@echo "  curves                  $(BIN)/tensorboard --logdir experiments"
	@echo "  files to deploy         $(DEMO_STUDENT)/best.onnx, $(DEMO_RUN)/best.onnx, $$(ls $(DEMO_ENSEMBLE)/ensemble.onnx)"
	@echo "  your own data           README.md, 'Train on your own images'"

test: setup  ## the tests
	$(BIN)/python -m pytest -q -n $(TEST_PROCESSES) --dist loadfile -m "not slow and not gpu"

test-slow: setup  ## the tests that take minutes
	$(BIN)/python -m pytest -q -n $(TEST_PROCESSES) --dist loadfile -m "slow"

lint: setup  ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup  ## mypy strict
	$(BIN)/mypy

check: lint types test  ## everything CI checks

bench: setup  ## speed as ratios of two ways in one run
	$(BIN)/python -m benchmarks.metrics
	$(BIN)/python -m benchmarks.loader
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.near_duplicates
	$(BIN)/python -m benchmarks.ensemble_sweep
	$(BIN)/python -m benchmarks.softlabel_export
	$(BIN)/python -m benchmarks.student

coverage-of-intervals: setup  ## how often the bootstrap intervals hold the truth, on simulated data, in minutes
	$(BIN)/python -m benchmarks.coverage

format: setup  ## apply the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove what setup and the tests made; runs and data sets stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build dist *.egg-info
