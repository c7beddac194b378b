# `make` alone says what there is.

PYTHON := .venv/bin/python
# Root is asked for where it is needed, and only there.
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo --preserve-env=CI,TERM)
# The stubs imitate the kernel's own headers; records.h is a table, aligned by hand.
C_FILES = $(shell find bpf tests bench -name '*.[ch]' -not -path 'bpf/stub/*' -not -name records.h)
UNPRIVILEGED := $(wildcard tests/pure tests/border tests/replay)

.DEFAULT_GOAL := help
.PHONY: help venv demo test quick check format docs bench lock wheel clean

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: .venv/made ## Make .venv with .venv/bin/otel-ebpf, installing what Debian has to give
	@scripts/setup-debian.sh run

.venv/made: pyproject.toml requirements-dev.lock
	scripts/setup-debian.sh run
	/usr/bin/python3 -m venv --system-site-packages .venv
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.lock
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: venv ## Show it: real nginx and clients for half a minute, sent beside seen
	@scripts/setup-debian.sh demo
	@$(PYTHON) -m scripts.demo

test: venv ## Run every test; needs root for the kernel, about 15 minutes
	@scripts/setup-debian.sh test
	@scripts/build-collector
	$(PYTHON) -m pytest $(UNPRIVILEGED)
	$(AS_ROOT) $(PYTHON) -m pytest -p no:cacheprovider tests $(addprefix --ignore=,$(UNPRIVILEGED))

quick: venv ## Run the tests that need no privileges, under a minute
	@scripts/setup-debian.sh quick
	$(PYTHON) -m pytest $(UNPRIVILEGED)

check: venv ## Lint, format, types, layering, generated files
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	$(PYTHON) -m mypy
	@scripts/setup-debian.sh test
	clang-format --dry-run --Werror $(C_FILES)
	$(PYTHON) -m pytest -q tests/pure/test_house.py

format: venv ## Format Python and C
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .
	clang-format -i $(C_FILES)

docs: venv ## Write the generated pages of docs/
	$(PYTHON) -m scripts.docs

bench: venv ## Measure the targets of the design; table, and bench/out/results.json
	@scripts/setup-debian.sh bench
	$(AS_ROOT) $(PYTHON) -m bench

lock: ## Write the lock files anew from pyproject.toml
	scripts/lock

wheel: venv ## Build the wheel into dist/
	$(PYTHON) -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .

clean: ## Remove everything that was made
	rm -rf .venv build dist bench/out otel_ebpf.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
