# From a fresh checkout: `make demo` to see it, `make up` to run it, `make test` to check it.
# Needs Python 3.11 or newer (make PYTHON=/path/to/python3.12 ...) and no rights; root works too.
.POSIX:
.PHONY: demo up test test-servers test-tune test-browser test-slack web lint clean install install-test

PYTHON =
BIN = .venv/bin
STEP = .ci/step
# Several processes, because most tests wait for something; a class of tests, or a file, stays in one.
# In the order of the folders, which begins with the long ones: files of many tests are no longer than others.
PYTEST = -q --durations=10 -n 3 --dist loadscope --no-loadscope-reorder
PATHS = assistant connectors workers migrations docker tests

demo: install
	@$(STEP) "models" $(BIN)/deskhand models pull
	@$(BIN)/deskhand demo

up: install
	@$(STEP) "models" $(BIN)/deskhand models pull
	@$(BIN)/deskhand up

test: lint
	@$(STEP) "models" $(BIN)/deskhand models pull
	@$(STEP) "tests" $(BIN)/python -m pytest $(PYTEST) --cov --cov-report= -m "not server and not browser and not slack" $(TESTS)
	@printf -- '--- coverage: %s %%\n' "$$($(BIN)/coverage report --format=total)"

# Real Samba, Request Tracker, Redmine, OpenSSH, WebDAV and S3 servers, from Debian's and Python's packages.
test-servers: install-test
	@$(STEP) "servers" .ci/install-servers
	@$(STEP) "models" $(BIN)/deskhand models pull
	@$(STEP) "tests against servers" $(BIN)/python -m pytest $(PYTEST) -m server $(TESTS)

# What trains: torch, and the tests that say they need it.
test-tune:
	@$(STEP) "torch" .ci/install-tune
	@$(STEP) "models" $(BIN)/deskhand models pull smollm2-135m-instruct minilm-l6-v2-int8 minilm-l6-v2
	@$(STEP) "tests of training" $(BIN)/python -m pytest $(PYTEST) $$(grep -rl 'the extra \[tune\]' tests --include='test_*.py')

# What people do, in Debian's Chromium, against `deskhand up` with the sample company.
test-browser:
	@$(STEP) "browser" .ci/install-browser
	@$(STEP) "models" $(BIN)/deskhand models pull
	@$(STEP) "tests in a browser" $(BIN)/python -m pytest -q --durations=10 -m browser $${TESTS:-tests/browser}

# Builds the web app into the package; needs Node, which nothing else does.
web:
	@$(STEP) "web" .ci/build-web

# The Slack bot end to end, against emulators of Slack that others made.
test-slack: install-test
	@$(STEP) "browser" .ci/install-browser
	@$(STEP) "emulators of Slack" .ci/install-slack
	@$(STEP) "models" $(BIN)/deskhand models pull
	@$(STEP) "tests of the Slack bot" .ci/alone $(BIN)/python -m pytest -q --durations=10 -m slack $(TESTS)

lint: install-test
	@$(STEP) "ruff" $(BIN)/ruff check --quiet $(PATHS)
	@$(STEP) "format" $(BIN)/ruff format --quiet --check $(PATHS)
	@$(STEP) "types" $(BIN)/basedpyright --warnings
	@$(STEP) "imports" $(BIN)/lint-imports

# Data in .deskhand stay: an installation's database is not a build product.
clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

install:
	@PYTHON="$(PYTHON)" $(STEP) "install" .ci/install

install-test:
	@PYTHON="$(PYTHON)" $(STEP) "install" .ci/install test
