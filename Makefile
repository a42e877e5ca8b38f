# Every target sets up what it needs: a fresh clone needs Python 3.11, pip and make.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test check format gen baseline pools rights up dashboards sbom bench lock clean setup

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml protos/pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "Lathe needs Python 3.11 as '$(PYTHON)'; set PYTHON=…"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ./protos --editable '.[dev]'
	touch $@

demo: setup  ## train a digits CNN, convert it, prove it, quantize it, find its fastest form, run the packages
	$(BIN)/lathe demo

# Two processes more than the two cores that a machine has at least: many tests wait for a suite, a server or a poll. Three
# left a third of the processor time unused.
TEST_PROCESSES ?= 4

# Compiled ahead, for processes that may write no bytecode, as children in the sandbox: they start by the hundred.
test: setup  ## every test that this machine can run
	$(BIN)/python -m compileall -q services engines protos/gen protos/client tests
	$(BIN)/pytest --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

check: setup  ## format, lint, types, protos, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd protos && ../$(BIN)/buf format --diff --exit-code --path lathe && ../$(BIN)/buf lint
	cd protos && ../$(BIN)/buf build -o -#format=binpb | ../$(BIN)/buf breaking -#format=binpb --against baseline.binpb
	$(BIN)/python protos/generate.py --check

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	cd protos && ../$(BIN)/buf format --write --path lathe

gen: setup  ## stubs, type stubs and descriptor set from the protos
	$(BIN)/python protos/generate.py

baseline: setup  ## what `make check` holds the protos against; see ARCHITECTURE.md for when to renew it
	cd protos && ../$(BIN)/buf build --exclude-source-info --output baseline.binpb

pools: setup  ## the Kubernetes pools of workers, from the catalog of devices
	$(BIN)/python deploy/kubernetes/pools/pools.py

up: setup  ## the whole suite on this machine, until Ctrl-C
	$(BIN)/lathe up

rights: setup  ## what NATS and MinIO are told of rights, from the tables in services
	$(BIN)/python -m deploy.rights

dashboards: setup  ## what Grafana shows, from deploy/grafana/dashboards.py
	$(BIN)/python deploy/grafana/dashboards.py

sbom: setup  ## the bill of materials of each image (CycloneDX), in build/sbom
	$(BIN)/python deploy/docker/sbom.py build/sbom

bench: setup  ## the tables of the README, measured here
	$(BIN)/python -m tests.bench

lock: ## constraints.txt from the newest releases that fit, in a fresh environment; what this machine has nothing of is pinned where it is named
	rm -rf $(VENV) && $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet --editable ./protos --editable '.[dev]'
	$(BIN)/pip freeze --all --exclude-editable --exclude pip | sed 's/+cpu$$//' > constraints.txt
	sed -n '/^worker-nvidia\|^tensorflow/,/^]/s/^ *"\([a-z-]*\)[^=]*\(==[^";]*\).*/\1\2/p' pyproject.toml >> constraints.txt
	$(BIN)/pip install --dry-run --quiet --constraint constraints.txt --report - '.[detectron2,mmdetection]' | $(BIN)/python -c \
		'import json, sys; [print(*map(e["metadata"].get, ("name", "version")), sep="==") for e in json.load(sys.stdin)["install"]]' \
		| grep -v '^lathe' > constraints.more  # what no test needs installed
	cat constraints.more >> constraints.txt && sort --unique --ignore-case --field-separator = --key 1,1 --output constraints.txt constraints.txt && rm constraints.more
	touch $(VENV)/.installed

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache
