# The task list; bare `make` prints it. Needs Python 3.11 or 3.12 with venv and pip, git and make.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

VENV := .venv
BIN := $(VENV)/bin
PACKAGING := pyproject.toml client/pyproject.toml
# Much of the tests is waiting (for a session to be lost, for a leader), so there are more than cores.
WORKERS ?= $(shell echo $$((2 * $$(nproc 2>/dev/null || echo 2))))
# Each test of this kind starts several processes: with more of them at once, timeouts would be of the machine.
# The tests of a file share what is costly to have, such as a run of the fault matrix: one worker takes the file.
PROCESS_WORKERS ?= 2
NODES ?= 3

# The first interpreter that runs and has a version with plyvel wheels; override with `make PYTHON=...`.
SUPPORTED := import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(shell for python in python3.11 python3.12 python3; do \
	"$$python" -c '$(SUPPORTED)' 2>/dev/null && echo "$$python" && break; done)

# A dependency group of pyproject; read here, because pip before 25.1 cannot.
GROUP := import sys, tomllib; \
	print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"][sys.argv[1]], sep="\n")

.PHONY: help
help: ## Print this list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(VENV)/installed: $(PACKAGING)
	@if [ -z "$(PYTHON)" ]; then \
		echo "no Python 3.11 or 3.12 with venv was found; install one, or name it: make PYTHON=/path/to/python3.12" >&2; \
		exit 1; \
	fi
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e './client[cli]' -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@$(BIN)/python -c '$(GROUP)' dev > $(VENV)/dev-requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(VENV)/dev-requirements.txt
	@touch $@

$(VENV)/installed-docs: $(VENV)/installed
	@$(BIN)/python -c '$(GROUP)' docs > $(VENV)/docs-requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(VENV)/docs-requirements.txt
	@touch $@

$(VENV)/installed-bench: $(VENV)/installed
	@$(BIN)/python -c '$(GROUP)' bench > $(VENV)/bench-requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(VENV)/bench-requirements.txt
	@touch $@

.PHONY: setup
setup: $(VENV)/installed-dev ## Create .venv with the server, the client and the development tools.

.PHONY: run
run: $(VENV)/installed ## Install, and run a single member: clients on 127.0.0.1:7400 (ARGS= for options).
	@exec $(BIN)/coordsvc serve $(ARGS)

.PHONY: dev
dev: $(VENV)/installed ## Install, and run a local cluster of NODES=3 members (ARGS= for options).
	@exec $(BIN)/coordsvc dev --nodes $(NODES) $(ARGS)

.PHONY: demo
demo: $(VENV)/installed ## Three members and seven programs, killed and restarted; prints what happened.
	@exec $(BIN)/python -m examples.demo $(ARGS)

.PHONY: bench
bench: $(VENV)/installed ## Measure three members on this machine (ARGS='--scenarios write-256'; --list names them).
	@exec $(BIN)/python -m bench --systems coordsvc --rounds 1 --out build/bench $(ARGS)

.PHONY: bench-peers
bench-peers: $(VENV)/installed-bench ## The same beside etcd and ZooKeeper; figures, table and plot in bench/results.
	@exec $(BIN)/python -m bench $(ARGS)

.PHONY: performance
performance: $(VENV)/installed ## Copy the figures of bench/results into docs/performance.md and the README.
	@exec $(BIN)/python -m bench.performance_page

.PHONY: docs
docs: $(VENV)/installed-docs ## Build the documentation into build/docs; any warning fails.
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -b html docs build/docs
	@echo "open build/docs/index.html"

.PHONY: bugs
bugs: $(VENV)/installed-dev ## Plant each bug of the bank and let the simulator find it (ARGS='--only lock').
	@exec $(BIN)/python -m tests.simulation.bugs $(ARGS)

# They start hundreds of processes, which would all compile the same modules again if byte code were not kept.
.PHONY: test
test: export PYTHONDONTWRITEBYTECODE :=
test: $(VENV)/installed-dev ## Install, and run all tests.
	$(BIN)/pytest -q -n $(WORKERS) -m "not processes"
	$(BIN)/pytest -q -n $(PROCESS_WORKERS) --dist loadfile -m processes

.PHONY: counts
counts: $(VENV)/installed-dev ## Count messages, fsyncs and bytes of workloads again, and record the numbers.
	@exec $(BIN)/python -m tests.counts

.PHONY: sim
sim: $(VENV)/installed-dev ## Simulate whole clusters under faults: SEEDS=2000, or SEED=123 to replay one.
	@exec $(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),200)) $(ARGS)

.PHONY: chaos
chaos: $(VENV)/installed-dev ## Real processes under faults: SECONDS=60 MEMBERS=3 SEED=7 FAULTS=all.
	@exec $(BIN)/python -m tests.chaos --seconds $(or $(SECONDS),60) --members $(or $(MEMBERS),3) \
		--seed $(or $(SEED),0) --faults $(or $(FAULTS),all) $(ARGS)

.PHONY: crash-sweep
crash-sweep: $(VENV)/installed-dev ## A crash at every point of the simulated disk, and at every failpoint of real ones.
	$(BIN)/python -m tests.simulation.crash_sweep
	CRASH_SWEEP=whole $(BIN)/pytest -q tests/crashes $(ARGS)

.PHONY: fuzz
fuzz: $(VENV)/installed-dev ## Hostile bytes for every decoder and for live members (SECONDS=600).
	FUZZ_SECONDS=$(or $(SECONDS),600) $(BIN)/pytest -q tests/fuzz $(ARGS)

.PHONY: check
check: $(VENV)/installed-dev check-protos ## Format, lint, types, import layers, generated code fresh.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: $(VENV)/installed-dev ## Format the code and fix what can be fixed.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# generate(directory): write the generated code below it. Files without services get no *_pb2_grpc.
define generate
	$(BIN)/python -m grpc_tools.protoc -I protos --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
		--plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc --python_out=$(1) --grpc_python_out=$(1) \
		--mypy_out=quiet:$(1) --mypy_grpc_out=quiet:$(1) $$(find protos -name '*.proto' | sort)
	@for stub in $(1)/coordproto/v1/*_pb2_grpc.py; do \
		grep -q '^class ' "$$stub" || rm -f "$$stub" "$${stub}i"; \
	done
endef

.PHONY: protos
protos: $(VENV)/installed-dev ## Regenerate client/coordproto from protos/.
	$(call generate,client)

.PHONY: check-protos
check-protos: $(VENV)/installed-dev ## Fail if the committed generated code is stale.
	@rm -rf $(VENV)/generated && mkdir $(VENV)/generated
	$(call generate,$(VENV)/generated)
	@diff -r -x __init__.py -x __pycache__ $(VENV)/generated/coordproto client/coordproto \
		|| { echo "generated code is stale: run 'make protos' and commit the result" >&2; exit 1; }

.PHONY: clean
clean: ## Remove caches and build results; .venv and data directories stay.
	rm -rf build dist client/build client/dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +
