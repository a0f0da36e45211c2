# Everything a person or CI does here. Each target sets up what it needs.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
OUT    ?= runs
MODELS ?= $(OUT)/demo/models

.DEFAULT_GOAL := help
.PHONY: help demo test test-gpu test-deploy lint format bench bench-overload bench-mnist bench-training \
        bench-defenses bench-reliability bench-client serve clean

help:
	@echo "make demo   train a small model, serve it, steal it over HTTP, print what leaked (3 minutes)"
	@echo "make test   run the tests"
	@echo "make test-deploy  start the containers of docker-compose.yml, break them, look at them (root)"
	@echo "make serve  serve the models of the last demo on http://127.0.0.1:8000"
	@echo "make lint   formatting, types, import rules"
	@echo "make bench  measure serving speed; bench-overload, bench-training, bench-mnist: see docs/results.md"

# PyTorch first and with no upper bound: pip takes the newest pair of torch and torchvision that match.
$(VENV)/.demo: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet "torch>=2.11" "torchvision>=0.26"
	$(BIN)/pip install --quiet --editable ".[demo]"
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(BIN)/pip install --quiet --editable ".[dev]"
	@touch $@

demo: $(VENV)/.demo
	$(BIN)/intaglio demo --out $(OUT)/demo

serve: $(VENV)/.demo
	@test -d $(MODELS) || { echo "There is no $(MODELS) yet: run 'make demo' first, or set MODELS=DIR"; exit 1; }
	$(BIN)/intaglio serve --models $(MODELS)

# A process per core, one thread each: networks in tests are so small that a second thread only
# waits for the first.
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder --cov --cov-report=term:skip-covered

test-gpu: $(VENV)/.dev
	$(BIN)/pytest -m gpu

# The real stack, with an engine of its own where none runs; bounded to 15 minutes.
test-deploy: $(VENV)/.dev
	PYTHON=$(BIN)/python tests/deploy/run.sh

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.serving
	$(BIN)/python -m benchmarks.results_page

bench-overload: $(VENV)/.dev
	$(BIN)/python -m benchmarks.overload
	$(BIN)/python -m benchmarks.results_page

bench-training: $(VENV)/.dev
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.results_page

bench-defenses: $(VENV)/.dev
	$(BIN)/python -m benchmarks.defenses
	$(BIN)/python -m benchmarks.results_page

# What is seen when parts fail: budgets under a race, Redis and the server killed, reloads under load.
bench-reliability: $(VENV)/.dev
	for drill in race redis kill; do $(BIN)/python -m benchmarks.reliability_budget $$drill || exit 1; done
	$(BIN)/python -m benchmarks.reload_soak
	$(BIN)/python -m benchmarks.answer_cache
	$(BIN)/python -m benchmarks.reliability_page

# Needs wrk.
bench-client: $(VENV)/.dev
	$(BIN)/python -m benchmarks.client_throughput
	$(BIN)/python -m benchmarks.results_page

# Needs mnist, fashion_mnist and kmnist under INTAGLIO_DATA_ROOT; about an hour on two cores.
bench-mnist: $(VENV)/.dev
	$(BIN)/python -m benchmarks.mnist_from_fashion
	$(BIN)/python -m benchmarks.results_page

clean:
	rm -rf $(VENV) $(OUT) dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage*
