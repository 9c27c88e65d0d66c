# Everything sets itself up: a Python of 3.11 or newer and make are enough, as root or not.
# Another Python: make run PYTHON=python3.12. Other ports: make run WEB_PORT=8001.
PYTHON ?= python3
PERSON ?= Pat Lee

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input install -qq --root-user-action=ignore
READY := $(VENV)/.ready
CLEANED := .local .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis test-output

.DEFAULT_GOAL := help
.PHONY: help run token demo test unit faults bench check clean tools

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(READY) ## Run the whole service on this machine until Ctrl-C; its data is kept in .local
	@exec $(BIN)/python -m smart_accounts.local run

token: $(READY) ## Print an access token for the API while make run runs; PERSON="Kim Roy" for hers
	@exec $(BIN)/python -m smart_accounts.local token "$(PERSON)"

demo: $(READY) ## Drive one request to active and one to lapsed, on free ports, and print both
	@exec $(BIN)/python -m smart_accounts.local demo

test: tools check ## Check, then run all tests; needs Chromium, npm and curl
	@exec $(BIN)/python -m pytest --numprocesses=4

unit: $(READY) ## Run the tests that need no server and no browser, in seconds
	@exec $(BIN)/python -m pytest -m 'not server' --numprocesses=2

faults: $(READY) ## Run the fault tests in full: 200 requests under 18 kills; FAULTS_SEED repeats a run
	@exec $(BIN)/python -m pytest tests/faults --full --timeout=600 --capture=no

bench: $(READY) ## Measure how soon the pages answer with 10,000 requests in the store
	@exec $(BIN)/python benchmarks/pages.py

check: $(READY) ## Lint, check the format, the types and who imports whom
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports

clean: ## Remove .local (the data of make run), caches and test output; .venv stays
	@rm -rf $(CLEANED)
	@find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

# The stamp comes last and goes first: what was interrupted halfway is made anew, for pip takes a
# half-installed package for a whole one.
$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'This needs Python 3.11 or newer; name one: make PYTHON=python3.11' >&2; exit 1; }
	@echo 'Installing into $(VENV); this takes a minute, once.'
	@test -e $@ && $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		$(PYTHON) -m venv --clear $(VENV)
	@rm -f $@
	@$(PIP) --require-hashes -r requirements.txt
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

tools:
	@missing=; \
	command -v chromium-headless-shell >/dev/null || command -v chromium >/dev/null || \
		missing=" chromium-headless-shell"; \
	for tool in npm curl; do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	test -z "$$missing" || { \
		test "$$(id -u)" = 0 && command -v apt-get >/dev/null || \
			{ echo "The tests need these programs: apt-get install$$missing" >&2; exit 1; }; \
		echo "Installing$$missing for the tests."; \
		apt-get update -qq && \
			DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	}
