# Every command installs what it needs. You need only make and Python 3.11 or newer, as root or not.
# Another Python: make run PYTHON=python3.12. Another port: make run WEB_PORT=8001.
PYTHON ?= python3
PERSON ?= Pat Lee

VENV := .venv
BIN := $(VENV)/bin
PIP_FLAGS := --disable-pip-version-check --no-input install -qq --root-user-action=ignore
PIP := $(BIN)/python -m pip $(PIP_FLAGS)
READY := $(VENV)/.ready
CLEANED := .local dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis test-output
# Hashes, but no URLs, so that every package index can serve the pins.
PIN_FLAGS := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --no-header --no-annotate

# Every process would compile the same modules again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run token demo test unit faults bench check format pins release clean tools

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(READY) ## Run the whole service on this machine until Ctrl-C. Its data stays in .local
	@exec $(BIN)/python -m smart_accounts.local run

token: $(READY) ## Print an access token for the API of make run. Another person: PERSON="Kim Roy"
	@exec $(BIN)/python -m smart_accounts.local token "$(PERSON)"

demo: $(READY) ## Show one request that is accepted and one that lapses, on free ports
	@exec $(BIN)/python -m smart_accounts.local demo

# Tests mostly wait, for leases and restarts. Three processes per core leave no core idle. At most
# twelve, because each process starts servers of its own.
test: tools check ## Run the checks and all tests. Needs Chromium, npm, curl, pgbouncer and promtool
	@exec $(BIN)/python -m pytest --numprocesses=$$((3 * $$(nproc))) --maxprocesses=12

unit: $(READY) ## Run only the tests without servers and browsers, in half a minute
	@exec $(BIN)/python -m pytest -m 'not server' --numprocesses=2

faults: $(READY) ## Run the fault tests and the drills in full. Repeat a run: FAULTS_SEED=…
	@exec $(BIN)/python -m pytest tests/faults tests/e2e/test_encryption.py tests/e2e/test_api.py \
		tests/e2e/test_benchmarks.py tests/workflows/test_any_order.py tests/workflows/test_any_message.py \
		tests/workflows/test_outages.py tests/workflows/test_webhook_delivery.py \
		tests/local/test_whole_story.py \
		tests/local/test_stack_failures.py tests/local/test_stack.py tests/local/test_demo.py \
		tests/cli/test_requests.py tests/web/test_worst_calls.py --full --timeout=600 --capture=no

bench: $(READY) ## Measure the whole job against floors and a peer, a worker's start, and the pages
	@$(BIN)/python -m benchmarks.whole_job $(WHOLE_JOB)
	@$(BIN)/python -m benchmarks.startup
	@exec $(BIN)/python -m benchmarks.pages

# mypy is one process. Beside it, another one compiles the tests for all that run them later.
check: $(READY) ## Check lint rules, format, types and import rules
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/lint-imports & imports=$$!; \
		$(BIN)/python -m pytest --collect-only -qq >/dev/null & \
		$(BIN)/mypy --no-error-summary && wait $$imports && wait

format: $(READY) ## Fix lint errors where possible, and format the code
	@$(BIN)/ruff check --fix --quiet
	@$(BIN)/ruff format --quiet

# Run this after a change of the dependencies in pyproject.toml. It needs a package index that uv
# can reach. uv gets a temporary environment of its own, because .venv holds only pinned packages.
# hatchling and editables build the project when make installs it into .venv. uv keeps the versions
# that still fit. For an upgrade of all, delete both files before.
pins: ## Pin the packages of pyproject.toml in requirements.txt and requirements-runtime.txt
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	$(PYTHON) -m venv "$$folder" && \
	"$$folder/bin/python" -m pip $(PIP_FLAGS) uv && \
	printf 'hatchling\neditables\n' >"$$folder/build.in" && \
	"$$folder/bin/uv" pip compile $(PIN_FLAGS) --all-extras -o requirements.txt \
		pyproject.toml "$$folder/build.in" && \
	"$$folder/bin/uv" pip compile $(PIN_FLAGS) -c requirements.txt -o requirements-runtime.txt \
		pyproject.toml

# A release is reproducible: the same files give the same wheel and the same bill of materials.
release: $(READY) ## Build the wheel, its bill of materials and its list of licences in dist
	@version=$$($(BIN)/python -c 'from smart_accounts.version import VERSION; print(VERSION)') && \
	{ grep -qE "^## \\[$$version\\] - [0-9]{4}-[0-9]{2}-[0-9]{2}$$" CHANGELOG.md || \
		{ echo "CHANGELOG.md needs a section with a date: ## [$$version] - YYYY-MM-DD" >&2; exit 1; }; } && \
	rm -rf dist && $(BIN)/python -m hatchling build --target wheel >/dev/null && \
	name=dist/smart_account_requests-$$version && \
	printf '[project]\nname = "smart-account-requests"\nversion = "%s"\n' "$$version" >dist/project.toml && \
	$(BIN)/python -W ignore -m cyclonedx_py requirements requirements-runtime.txt \
		--pyproject dist/project.toml --output-reproducible --no-validate -o "$$name.cdx.json" 2>/dev/null && \
	rm dist/project.toml && \
	$(BIN)/pip-licenses --format=csv --with-urls --output-file="$$name.licenses.csv" --packages \
		$$(sed -n 's/^\([A-Za-z0-9._-]*\)==.*/\1/p' requirements-runtime.txt) >/dev/null && \
	ls dist/*

clean: ## Remove the data of make run, caches and test output, but keep .venv
	@rm -rf $(CLEANED)
	@find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

# The stamp file is removed first and written last. An interrupted installation therefore starts
# again, because pip takes a half-installed package for a complete one.
$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'This needs Python 3.11 or newer. Name one: make PYTHON=python3.11' >&2; exit 1; }
	@echo 'Installing into $(VENV). This takes a minute, once.'
	@test -e $@ && $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		$(PYTHON) -m venv --clear $(VENV)
	@rm -f $@
	@$(PIP) --require-hashes -r requirements.txt
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

# Debian's packages of pgbouncer and promtool are only unpacked, because an installation would start
# servers.
tools: $(READY)
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
	@PATH="$$PATH:/usr/sbin"; packages=; missing=; \
	for tool in pgbouncer promtool; do \
		command -v $$tool >/dev/null && continue; \
		packages="$$packages $$(test $$tool = promtool && echo prometheus || echo $$tool)"; \
		test -e $(VENV)/debian/usr/bin/$$tool || test -e $(VENV)/debian/usr/sbin/$$tool || missing=yes; \
	done; \
	test -z "$$missing" || { \
		echo "Downloading$$packages for the tests."; \
		rm -rf $(VENV)/debian.new && mkdir $(VENV)/debian.new && cd $(VENV)/debian.new && \
		download() { \
			libraries=$$(apt-cache depends --important $$packages | \
				sed -n 's/^ *Depends: \(lib.*\)/\1/p' | grep -vE '^lib(c6$$|js-)'); \
			apt-get download -qq -o APT::Sandbox::User=root $$packages $$libraries; \
		}; \
		{ download || { apt-get update -qq && download; }; } >/dev/null 2>&1 && \
		for package in *.deb; do dpkg -x "$$package" . && rm "$$package" || exit 1; done && \
		rm -rf ../debian && mv ../debian.new ../debian || \
		{ echo "The tests need these programs: apt-get install$$packages" >&2; exit 1; }; \
	}
