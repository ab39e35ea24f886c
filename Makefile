# Everything starts from here; `make help` lists it. Only Python (3.11 or newer) and make are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
# The site's generator has an environment of its own: nothing else needs it.
SITE := $(VENV)/site
PROTO := operator/buildkite_connector/proto
# All cores, a module in one worker, in the order of the command line: what waits longest comes first.
# `pytest tests/unit/x` alone runs serially.
PARALLEL := -n auto --dist loadscope --no-loadscope-reorder
# Tests start the command many times; without cached bytecode each start would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test unit thorough coverage check format e2e soak bench bench-fleet bench-soak bench-changes bench-tenants prose image crds chart fields reasons site dashboard proto lock mutants clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## the virtual environment, pinned with hashes

$(READY): requirements/dev.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is needed: $(PYTHON) was not found"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; $(PYTHON) is older. Name another: make PYTHON=python3.12"; exit 1; }
	@echo "Setting up $(VENV) (once; about a minute)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes --requirement requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

demo: $(READY) ## the main job, start to end, on simulators and an embedded Kubernetes API
	@$(BIN)/python tests/demo

# Helm's code, in Go, renders the chart 250 times; with its usual setting it spends a third of that on old memory.
test unit thorough: export GOGC := 400

test: $(READY) ## the unit tests, and the operator as a process on the simulators
	@$(BIN)/pytest $(PARALLEL) -m "not e2e and not thorough" tests/scenarios tests/unit

unit: $(READY) ## the unit tests alone
	@$(BIN)/pytest $(PARALLEL) -m "not thorough" tests/unit

# Two workers, each with an API server of its own; one when they would share an existing cluster.
# EXAMPLES: of a property test; 1 is all that it names, and `make test` tries a twelfth of them.
thorough: $(READY) ## what `make test` leaves out: all examples of the property tests, hostile servers, the tests' own tools (EXAMPLES=7)
	@EXAMPLES=$(or $(EXAMPLES),1) $(BIN)/pytest $(PARALLEL) -m "(thorough or hypothesis) and not e2e" tests/scenarios tests/unit

e2e: $(READY) ## the tests against a real API server (see docs/development.md for how to get one)
	@$(BIN)/pytest $(if $(E2E_KUBECONFIG),,-n 2 --dist loadscope --no-loadscope-reorder) -m e2e tests/scenarios tests/e2e

soak: $(READY) ## kills and stops operator and service at random moments: KILLS=200 STOPS=100 of each, MODE=service one alone, SEED repeats
	@KILLS=$(or $(KILLS),200) STOPS=$(or $(STOPS),100) CHANGE_ENDS=$(or $(CHANGE_ENDS),200) CREATION_KILLS=$(or $(CREATION_KILLS),50) $(BIN)/pytest -s tests/soak $(if $(MODE),-k $(MODE))

coverage: $(READY) ## a map of what `make test` runs, subprocesses included: .coverage_html/index.html
	@rm -f .coverage .coverage.*
	@$(BIN)/coverage run -m pytest $(PARALLEL) -m "not e2e" tests/scenarios tests/unit
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --skip-covered --skip-empty
	@$(BIN)/coverage html --quiet

check: $(READY) ## lint, types, import directions, generated files current, the workflows
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python tools/protobuf.py --check
	@$(BIN)/buildkite-connector crd | diff - crds/buildkiteconnectors.yaml || { echo "crds/ is not current: run make crds"; exit 1; }
	@$(BIN)/python tools/chart.py --check
	@$(BIN)/python tools/reasons.py --check
	@$(BIN)/python tools/fields.py --check
	@$(BIN)/python tools/figures.py --check
	@$(BIN)/actionlint -shellcheck $(BIN)/shellcheck .github/workflows/*.yaml
	@$(BIN)/zizmor --offline --quiet .github/workflows

bench: $(READY) ## measures what is promised; writes docs/benchmarks.md
	@$(BIN)/python tests/bench
	@$(BIN)/python tools/figures.py

bench-fleet: $(READY) ## one operator with 1,000 connectors on a real API server; writes docs/benchmarks-fleet.md
	@$(BIN)/python tests/bench --fleet 1000
	@$(BIN)/python tools/figures.py

bench-soak: $(READY) ## whether the operator's memory stays flat: 100 connectors that sync without a pause for 30 minutes
	@$(BIN)/python tests/bench --soak 30

bench-changes: $(READY) ## grants while a sync waits for its quota (a quarter of an hour); writes docs/benchmarks-changes.md
	@$(BIN)/python tests/bench --changes 60
	@$(BIN)/python tools/figures.py

bench-tenants: $(READY) ## one namespace beside 100 connectors of another that do their worst (6 minutes); writes docs/benchmarks-tenants.md
	@$(BIN)/python tests/bench --tenants 100
	@$(BIN)/python tools/figures.py

mutants: $(READY) ## plants faults one by one in what decides and counts what the unit tests notice (ONLY=store, ONLY='*decisions*')
	@$(BIN)/python tools/mutants.py $(ONLY)

format: $(READY) ## formats the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

image: $(READY) ## the image of both platforms as an OCI archive, without an engine (root, Debian: buildah, mmdebstrap)
	@$(BIN)/python tools/image.py

crds: $(READY) ## writes crds/ from its source in the code
	@$(BIN)/buildkite-connector crd > crds/buildkiteconnectors.yaml

chart: $(READY) ## writes what follows from the chart's values and templates: its schema, its README's table, deploy/
	@$(BIN)/python tools/chart.py

reasons: $(READY) ## writes docs/reasons.md, every condition reason with its remedy, from the code
	@$(BIN)/python tools/reasons.py

fields: $(READY) ## writes docs/fields.md, every field of the resource, from the definition
	@$(BIN)/python tools/fields.py

site: $(READY) $(SITE)/ready ## the documentation as a site in build/site, without a warning, and looks at what was built
	@$(BIN)/python tools/docs_site.py
	@$(SITE)/bin/zensical build --config-file mkdocs.yml --strict --clean
	@$(BIN)/pytest -q tests/site

prose: ## grammar of the pages for users, by Harper (needs Node.js and npm)
	@npm install --silent --no-package-lock --no-save --ignore-scripts --prefix build/prose harper.js@2.10.0
	@node tools/prose.mjs *.md $(filter-out $(addprefix docs/,planted-faults.md mutants.md development.md),$(wildcard docs/*.md)) docs/runbooks/*.md charts/*/README.md

$(SITE)/ready: requirements/site.txt
	@$(PYTHON) -m venv $(SITE)
	@$(SITE)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes --requirement requirements/site.txt
	@touch $@

dashboard: $(READY) ## draws docs/dashboard.png from a run of operators (needs prometheus and chromium on PATH)
	@$(BIN)/python tests/dashboard

proto: $(READY) ## regenerates the protobuf code from the .proto files
	@$(BIN)/python tools/protobuf.py

lock: ## pins what pyproject.toml allows, with hashes (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	  pyproject.toml -o requirements/runtime.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	  pyproject.toml --group dev -o requirements/dev.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	  --group pyproject.toml:site -o requirements/site.txt

clean: ## removes the virtual environment and caches
	rm -rf $(VENV) mutants .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage .coverage.* .coverage_html
