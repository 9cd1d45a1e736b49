PYTHON ?= /usr/bin/python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup run test test-installed test-package soak faults bench fuzz lint client client-node deb apt-repo clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

setup: ## install what is missing and make .venv (nothing to do the second time)
	@$(PYTHON) tools/setup_venv.py

run: setup ## start the bridge, with a simulated FreeSWITCH or a NATS server of its own where there is none
	@exec $(BIN)/python tools/run.py

test: setup ## all tests; make test ARGS="-x tests/unit" gives pytest arguments instead
	@$(BIN)/python $(if $(ARGS),-m pytest $(ARGS),tools/run_tests.py)

soak: setup ## the tests of both paths and both links, ten times as long
	@EVENT_AGENT_SCALE=10 $(BIN)/python -m pytest -v tests/functional/test_commands.py tests/functional/test_links.py tests/functional/test_switch_link.py tests/functional/test_link_faults.py

faults: setup ## what each fault of the two links costs, counted
	@$(BIN)/python bench/faults.py

bench: setup ## measure commands, events, memory; tables and pictures in bench/out; ARGS=--quick to try it
	@$(BIN)/python -m bench.bench $(ARGS)

fuzz: setup ## hostile input from every side, five minutes for each kind; EVENT_AGENT_FUZZ_SECONDS changes that
	@EVENT_AGENT_FUZZ_SECONDS=$${EVENT_AGENT_FUZZ_SECONDS:-300} $(BIN)/python -m pytest -v -s -o faulthandler_timeout=0 \
		$(if $(ARGS),$(ARGS),tests/unit/test_fuzz_*.py)

test-installed: setup ## the unit tests against an installed wheel, outside the checkout
	@$(BIN)/python tools/check_installed.py

test-package: ARGS := $(if $(SUITE),--suite $(SUITE))
test-package: setup apt-repo ## install the package in a booted Debian and use it there; needs root, and minutes; SUITE=trixie
	@EVENT_AGENT_TEST_SUITE=$(SUITE) EVENT_AGENT_TEST_PACKAGE=$${EVENT_AGENT_TEST_PACKAGE:-yes} \
		$(BIN)/python -m pytest -v tests/package/test_package.py

# The launcher as a text: as a file, mypy would take it for the package of the same name.
lint: setup ## ruff and mypy --strict
	@$(BIN)/ruff check .
	@$(BIN)/mypy event_agent event_agent_client tests tools bench examples
	@$(BIN)/mypy -c "$$(cat event_agent.py)"

client: setup ## build the wheel of event-agent-client into dist/
	@$(BIN)/python tools/build_client.py

client-node: ## build the npm package event-agent-client into dist/
	@mkdir -p dist && cd clients/node && npm ci --ignore-scripts --silent && npm run --silent build && npm pack --ignore-scripts --silent --pack-destination ../../dist

deb: ## build the Debian package into dist/
	@$(PYTHON) tools/build_deb.py

apt-repo: ## make a signed apt repository in dist/apt; ARGS="--suite bookworm --suite trixie --key FILE"
	@$(PYTHON) tools/apt_repo.py $(ARGS)

clean: ## remove all that the other targets made, .venv included
	rm -rf clients/node/node_modules clients/node/dist clients/node/build
	rm -rf .venv build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
