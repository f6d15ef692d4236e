# Every target sets up what it needs. `make help` lists them.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEV := .dev
# Many tests wait for real processes: two processors have work for three.
PYTEST := $(BIN)/pytest -n 3 --dist worksteal
# The lock files are made for all platforms and Python >= 3.11.
LOCK := uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --group build

.PHONY: help demo control-plane up demo-kubernetes down test test-cluster test-long test-crash lint types imports crds docs verify bench format lock clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

$(VENV)/run: requirements.txt pyproject.toml
	@tools/venv $(PYTHON) $(VENV) requirements.txt
	@touch $@

$(VENV)/dev: requirements-dev.txt $(VENV)/run
	@tools/venv $(PYTHON) $(VENV) requirements-dev.txt
	@touch $@

demo: $(VENV)/run ## Set up all, bring up a database, an app and a web front as real processes, kill one, watch it heal
	@PATH="$(abspath $(BIN)):$$PATH" tools/demo $(DEV)

control-plane: $(VENV)/run ## Build (minutes, the first time) and start etcd, kube-apiserver, kube-controller-manager
	@$(BIN)/python -m tools.control_plane start --dir $(DEV)

up: $(VENV)/run ## A control plane, the CRDs and the operator; CLUSTER=<kubeconfig> uses a cluster of yours
	@$(BIN)/python -m tools.development up --dir $(DEV) $(if $(CLUSTER),--cluster $(CLUSTER))

demo-kubernetes: up ## The same as `make demo` on a real Kubernetes API, by kubectl
	@PATH="$(abspath $(BIN)):$$PATH" tools/demo-kubernetes $(DEV)

down: ## Delete the infrastructures, wait, end all that `make demo` and `make up` started
	@if [ -x $(BIN)/occopus ]; then tools/down $(DEV) $(BIN) $(CLUSTER); fi

test: $(VENV)/dev lint types imports verify ## Set up all, then lint, types, imports, generated files, all tests but the long ones and most that need a cluster
	@$(BIN)/python -m tools.control_plane build
	$(PYTEST) -m "not long" $(filter-out tests/cluster/,$(wildcard tests/*/)) tests/cluster/test_operator_rights.py tests/cluster/test_command_operator.py

test-cluster: $(VENV)/dev ## Operators on a real Kubernetes API: killed, stopped, cut off, misled
	@$(BIN)/python -m tools.control_plane build
	$(PYTEST) tests/cluster

test-long: $(VENV)/dev ## A crash at every change on all clouds, an odd value at every field, real probes and kills
	$(PYTEST) -m long --ignore=tests/cluster

test-crash: $(VENV)/dev ## The long way (hours): a crash at every call, reads too, on all clouds and in both homes; by SIGKILL at every change; thousands of property examples
	CRASH=all HYPOTHESIS_PROFILE=thorough $(PYTEST) tests/crash tests/properties tests/e2e/test_kill_ec2.py $(addprefix tests/cluster/test_,operator_ec2.py operator_kill.py operator_kills.py operator_standby.py restore_ec2.py)

lint: $(VENV)/dev ## Style
	$(BIN)/ruff format --check -q .
	$(BIN)/ruff check -q .

types: $(VENV)/dev ## Types
	$(BIN)/basedpyright

imports: $(VENV)/dev ## Import contracts
	$(BIN)/lint-imports --no-cache | tail -n 12

crds: $(VENV)/run ## Write the CRDs from the models
	$(BIN)/python -m controller crds crds

docs: $(VENV)/run ## Write the generated documents from the models
	$(BIN)/python -m controller docs docs

verify: $(VENV)/dev crds docs ## Regenerate everything generated and fail on a difference; apply the CRDs to a real API server
	@git diff --exit-code -- crds docs || { echo "generated files are stale: commit what 'make crds docs' wrote" >&2; exit 1; }
	@$(BIN)/python -m tools.control_plane build
	$(BIN)/pytest tests/api/test_crds_on_a_server.py

bench: $(VENV)/dev ## Measure: makespan, scale, healing (ratios and counts)
	$(BIN)/python -m tests.bench

format: $(VENV)/dev ## Format the code
	$(BIN)/ruff format -q .
	$(BIN)/ruff check -q --fix .

lock: ## Lock the dependencies again, with hashes (needs uv)
	$(LOCK) -o requirements.txt pyproject.toml
	$(LOCK) --group dev -o requirements-dev.txt pyproject.toml

clean: down ## End what runs and remove what was built here
	rm -rf $(VENV) $(DEV)
