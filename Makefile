# `make` alone prints what there is.
.DEFAULT_GOAL := help
.PHONY: help setup demo test crash bench profile nightly check lint unit stack clean lock

BIN := .venv/bin
# Two test processes, each with servers of its own; a file stays in one of them.
SPREAD := --numprocesses 2 --dist loadfile --no-loadscope-reorder

help: ## print this
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  \1\t/' | expand -t 12

setup: ## install what is missing: system packages, .venv, the project
	@scripts/bootstrap.sh

demo: setup ## set up, start everything, and watch nine stories; KEEP=1 leaves it running
	@$(BIN)/fulcrum demo $(if $(KEEP),--keep) $(ARGS)

test: setup lint ## set up, then lint, types, import rules and every test, on the real servers
	$(BIN)/pytest $(SPREAD) $(ARGS)

crash: setup ## kill everything for half an hour under load, then check; ARGS="--for 5m --seed 2"
	$(BIN)/python -m bench.crash --for 30m --json crash.json $(ARGS)

bench: setup ## every benchmark in a quarter of an hour, beside the committed results; ARGS="--part relay --keep"
	@$(BIN)/python -m pip install --quiet 'matplotlib>=3.9,<4'
	$(BIN)/python -m bench.whole $(ARGS)

profile: setup ## flame graphs of every role under load, in profile/; ARGS="--role agents --for 30s"
	@$(BIN)/python -m pip install --quiet 'py-spy>=0.4,<0.5'
	$(BIN)/python -m bench.profile $(ARGS)

nightly: setup ## 100,000 simulated workflows under a seed of the day, then make crash with the same
	$(BIN)/fulcrum simulate --workflows 100000 --seed $$(date +%Y%m%d)
	$(BIN)/python -m bench.crash --for 60m --json crash.json --seed $$(date +%Y%m%d) $(ARGS)

check: setup lint unit ## set up, then lint and the tests that need no server

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/fulcrum schema check --offline

unit:
	$(BIN)/pytest -m "not stack" $(SPREAD) $(ARGS)

stack: setup ## start the servers alone; `.venv/bin/fulcrum stack down` stops them
	@$(BIN)/fulcrum stack up

clean: ## stop the servers, remove their data, the downloads and the virtual environment
	@if [ -x $(BIN)/fulcrum ]; then $(BIN)/fulcrum stack wipe --yes --downloads; fi
	rm -rf .venv .fulcrum

lock: setup ## write requirements.lock anew from setup.cfg
	$(BIN)/python -m pip install --quiet pip-tools
	$(BIN)/pip-compile --quiet --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
	    --extra localstack --extra test --extra lint --output-file requirements.lock setup.cfg
