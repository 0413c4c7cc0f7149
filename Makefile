# The only commands of this project; continuous integration calls the same ones. `make help` lists them.
#
# Everything that a target sets up lies in the checkout: .venv (development), .cache (tools, the wheel's environment),
# target (Rust), dist (wheel and sdist). `make clean` removes all of it.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
MAKEFLAGS += --no-builtin-rules --no-print-directory

ROOT := $(CURDIR)
PY := $(ROOT)/.venv/bin/python
WHEEL_PY := $(ROOT)/.cache/wheel-venv/bin/python
STEP := scripts/step
COVERED := scripts/with-coverage
# The stable ABI, as in the wheel, and what only the repository's own tools need.
FEATURES := --features llmquota-python/abi3,llmquota/schema

# One interpreter for every build: pyo3 is compiled again whenever it changes. The linters find each other on PATH.
export PYO3_PYTHON := $(PY)
export VIRTUAL_ENV := $(ROOT)/.venv
export PATH := $(ROOT)/.venv/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_QUIET := 1
unexport PYTHONHOME

RUST_SOURCES := $(shell find Cargo.toml Cargo.lock src pyext data locales schema -type f 2>/dev/null)
PYTHON_SOURCES := $(shell find pyproject.toml README.md python -type f -not -name '*.so' -not -name '*.pyc' 2>/dev/null)

# What each step leaves behind lies beside what it made, so that deleting a folder undoes the step.
REQUIREMENTS := .venv/.requirements
EXTENSION := .venv/.extension
WHEEL := dist/.wheel
WHEEL_VENV := .cache/wheel-venv/.wheel

.PHONY: help
help: ## List the targets
	@echo 'make TARGET, from a fresh checkout; each sets up what it needs.'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)$$/\1\t\2/p' Makefile | while IFS=$$'\t' read -r name text; do printf '  %-14s %s\n' "$$name" "$$text"; done

# --- setting up ---

.PHONY: setup
setup: $(EXTENSION) ## Prepare .venv for development: pinned requirements and the extension, built for debugging
	@echo '.venv is ready: .venv/bin/python imports llmquota from this checkout'

$(REQUIREMENTS): requirements-dev.txt scripts/make-venv
	@$(STEP) 'Checking what the machine must have' scripts/check-prerequisites
	@$(STEP) 'Making the virtual environment .venv' scripts/make-venv .venv
	@$(STEP) 'Installing the pinned development requirements into .venv' $(PY) -m pip install --requirement requirements-dev.txt
	@touch $@

$(EXTENSION): $(REQUIREMENTS) $(RUST_SOURCES) pyproject.toml
	@$(STEP) 'Building the extension and installing the package into .venv, editable' maturin develop --quiet
	@touch $@

# Asked each time, and quick: the tools must be of the LLVM of the rustc in use.
.PHONY: coverage-tools
coverage-tools:
	@$(STEP) 'Finding the tools for Rust coverage' scripts/install-coverage-tools .cache/tools

.PHONY: wheel
wheel: $(WHEEL) ## Build the wheel (release, one for Python 3.10 and later) into dist/

$(WHEEL): $(REQUIREMENTS) $(RUST_SOURCES) $(PYTHON_SOURCES)
	@rm -rf dist/*.whl
	@$(STEP) 'Building the wheel' maturin build --quiet --release --interpreter $(PY) --out dist
	@touch $@

$(WHEEL_VENV): $(WHEEL)
	@$(STEP) 'Making an environment for the wheel' scripts/make-venv .cache/wheel-venv
	@$(STEP) 'Installing the wheel with its extras' scripts/install-wheel $(WHEEL_PY) all
	@touch $@

# --- using ---

.PHONY: demo
demo: $(WHEEL_VENV) ## Run the main job: three workspaces, a backend, a provider, a reconciliation (KEEP=1 stays up)
	@$(STEP) 'Installing what the demo shows its table with' $(WHEEL_PY) -m pip install --constraint requirements-dev.txt rich httpx
	@KEEP=$(KEEP) $(STEP) 'Running the demo' $(WHEEL_PY) examples/backend/demo.py

.PHONY: bench
bench: $(WHEEL_VENV) ## Measure the speed table and its gates; writes docs/benchmarks.md
	@$(STEP) 'Installing what the benchmarks compare with' $(WHEEL_PY) -m pip install --constraint requirements-dev.txt limits pyrate-limiter throttled-py \
		httpx openai opentelemetry-instrumentation-openai opentelemetry-instrumentation-openai-v2 opentelemetry-sdk
	@$(STEP) 'Measuring' $(WHEEL_PY) benches/run.py

.PHONY: chaos
chaos: ## Kill 1,000 processes of a shared store under load and judge what is left; writes docs/reliability.md
	@$(STEP) 'Building the tests for release' cargo test --quiet --release --package llmquota --test chaos --no-run
	@$(STEP) 'Killing and judging' cargo test --quiet --release --package llmquota --test chaos -- --ignored --exact the_full_storm --nocapture

.PHONY: soak
soak: ## Use a shared store for ten minutes at 80 % of what its history takes; writes docs/reliability.md
	@$(STEP) 'Building the tests for release' cargo test --quiet --release --package llmquota --test chaos --no-run
	@$(STEP) 'Soaking' cargo test --quiet --release --package llmquota --test chaos -- --ignored --exact the_full_soak --nocapture

.PHONY: docs
docs: ## Build the Rust documentation, private items included; a broken link fails
	@RUSTDOCFLAGS='-D warnings -A rustdoc::private-intra-doc-links' $(STEP) 'Building the Rust documentation' cargo doc --quiet --no-deps --document-private-items --package llmquota

# --- checking ---

.PHONY: test
test: lint test-rust test-python coverage test-wheels test-sdks ## Run every check: lint, tests with coverage, the wheel on each Python, each line of the SDK
	@echo '==> All checks passed'

.PHONY: test-quick
test-quick: setup ## Run the Rust and Python tests alone, without coverage
	@$(STEP) 'Testing Rust' cargo test --quiet --workspace --all-targets $(FEATURES)
	@$(STEP) 'Testing Python' $(PY) -m pytest $(PYTEST_ARGS)

.PHONY: lint
lint: setup docs ## Check format, lints, types, stubs, scripts and workflows
	@$(STEP) 'Checking the format of Rust' cargo fmt --all --check
	@$(STEP) 'Linting Rust' cargo clippy --quiet --workspace --all-targets $(FEATURES) -- -D warnings
	@$(STEP) 'Checking that schema/ is what src/wire.rs says' cargo run --quiet --features schema --example schema -- --check
	@$(STEP) 'Checking the format of Python' ruff format --quiet --check .
	@$(STEP) 'Linting Python' ruff check --quiet .
	@$(STEP) 'Checking types' mypy
	@$(STEP) 'Checking the stubs of the extension' $(PY) -m mypy.stubtest llmquota._native
	@$(STEP) 'Checking shell scripts' shellcheck $(filter-out %.py,$(wildcard scripts/*)) .ci/run
	@$(STEP) 'Checking workflows' actionlint
	@$(STEP) 'Auditing workflows' zizmor --quiet --color never --offline .github/workflows

.PHONY: test-rust
test-rust: $(REQUIREMENTS) coverage-tools ## Run the Rust tests; they must cover 80 % of the engine's lines
	@$(STEP) 'Removing earlier counts of Rust coverage' $(COVERED) cargo llvm-cov clean --workspace
	@$(STEP) 'Testing Rust' $(COVERED) cargo test --quiet --workspace --all-targets $(FEATURES)
	@$(STEP) 'Testing the examples in the Rust documentation' cargo test --quiet --package llmquota --doc
	@$(STEP) 'Rust coverage of the engine by the Rust tests' $(COVERED) cargo llvm-cov report --package llmquota --fail-under-lines 80

.PHONY: test-python
test-python: setup coverage-tools ## Run the Python tests; they must cover 80 % of the package's lines
	@$(STEP) 'Building the extension with coverage' $(COVERED) scripts/build-coverage-package .cache/coverage/site
	@$(PY) -m coverage erase
	@PYTHONPATH=$(ROOT)/.cache/coverage/site $(STEP) 'Testing Python' $(COVERED) $(PY) -m coverage run -m pytest $(PYTEST_ARGS)
	@$(PY) -m coverage combine --quiet
	@$(STEP) 'Python coverage' $(PY) -m coverage report

# After both: what neither language's tests reach alone, the binding above all.
.PHONY: coverage
coverage: coverage-tools
	@$(STEP) 'Rust coverage of engine and binding by all tests' $(COVERED) cargo llvm-cov report --package llmquota --package llmquota-python --fail-under-lines 80

.PHONY: test-wheels
test-wheels: wheel ## Install the wheel alone on each Python from 3.10 to 3.13 found here, and build the sdist on one
	@rm -rf dist/*.tar.gz
	@$(STEP) 'Building the sdist' maturin sdist --out dist
	@$(STEP) 'Testing the wheel and the sdist as installed' $(PY) scripts/test_wheels.py dist

# The oldest that is supported, the last of its line, and the newest of each line since.
SDKS ?= 1.97.0 1.109.1 2.54.0 3.57.0

.PHONY: test-sdks
test-sdks: wheel ## Test the instrumentation with several versions of the openai SDK (SDKS='1.97.0 ...' chooses)
	@$(STEP) 'Testing with versions of the openai SDK' scripts/test-sdks $(SDKS)

# --- keeping in order ---

.PHONY: fmt
fmt: $(REQUIREMENTS) ## Format Rust and Python, and mend what ruff can mend
	@cargo fmt --all
	@ruff check --quiet --fix-only .
	@ruff format --quiet .

.PHONY: schema
schema: ## Write schema/ again from src/wire.rs
	@cargo run --quiet --features schema --example schema

# Today's date is that of the copy; the version is the one that is pinned, for which Python 3.11 is needed.
.PHONY: prices
prices: $(REQUIREMENTS) ## Write data/prices.json again from the installed genai-prices, and the costs that its tests compare with
	@$(PY) data/generate_prices.py
	@$(PY) data/generate_prices.py --fixture
	@$(STEP) 'Checking every price against the package' cargo test --quiet --package llmquota --test prices

.PHONY: requirements
requirements: $(REQUIREMENTS) ## Pin requirements-dev.in in requirements-dev.txt again, at the newest versions
	@uv pip compile --quiet --universal --upgrade --python-version 3.10 --custom-compile-command 'make requirements' requirements-dev.in --output-file requirements-dev.txt

.PHONY: clean
clean: ## Remove everything that the targets made
	@rm -rf .venv .cache target dist coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.* python/llmquota/_native*.so
