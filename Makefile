# Everything happens in .venv, made here on first use and again when pyproject.toml or constraints.txt change.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# The Python to start from: the first of these that is 3.11 or later. Yours: make PYTHON=/path/to/python3 run
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.version_info < (3, 11) and sys.exit(1); print(sys._base_executable)' 2>/dev/null && break; done)

# DVC starts the stages by name, so the commands of .venv come first.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
unexport PYTHONPATH PYTHONHOME

.PHONY: help env hooks run test test-chains lab export clean-env

help: ## What there is; ARGS=… is handed on, as in: make test ARGS='-x -k engine'
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'

env: .venv/installed ## The environment only: .venv with the locked dependencies

.venv/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or later found. Install one, or name it: make PYTHON=/path/to/python3 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is $$($(PYTHON) -V 2>&1), and 3.11 or later is needed. Name another: make PYTHON=/path/to/python3 $(MAKECMDGOALS)"; exit 1; }
	@echo "Making .venv with $$($(PYTHON) -V) ..."
	@$(PYTHON) -m venv .venv || { echo "$(PYTHON) cannot make environments. On Debian and Ubuntu: apt install python3-venv"; rm -rf .venv; exit 1; }
	@echo "Installing the locked dependencies, about $$(grep -c == constraints.txt) packages: one to five minutes, once ..."
	@.venv/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[run,dev]' \
	  || { echo "The installation failed; pip says why above. Then run make again. (Locked versions were tried with Python 3.11 to 3.13.)"; exit 1; }
	@$(MAKE) --no-print-directory hooks
	@mkdir -p .venv/etc/jupyter/labconfig && echo '{"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": true}}' > .venv/etc/jupyter/labconfig/page_config.json
	@touch $@
	@echo "Installed."

# Where a branch is checked out that is older than the merge, git merges as it always does.
DRIVER = if [ -f mlcycle/merge.py ]; then PATH=".venv/bin:$$PATH" python3 -m mlcycle.merge %O %A %B %P; else git merge-file %A %O %B; fi

hooks: ## Tell git to stage notebooks without outputs and to merge them by cell, YAML by key (`make env` does it, too)
	@test -n "$$(git rev-parse --show-cdup 2>/dev/null || echo none)" || { \
	  git config filter.notebook.clean "python3 .ci/clean_notebook.py"; \
	  git config merge.cells.driver '$(DRIVER)'; \
	  git config merge.keys.driver '$(DRIVER)'; }

run: .venv/installed ## The whole lifecycle; prints a summary
	@mlcycle run

test: .venv/installed ## Every quick test: tests/ and the lessons of all notebooks
	@echo "Lessons of the notebooks ..."
	@nbdev_test
	@echo "Tests ..."
	@python -m pytest -q -n auto --dist loadfile $(ARGS)

test-chains: .venv/installed ## The slow tests: whole lifecycles, determinism, kills
	@python -m pytest -q -m chains $(ARGS)

# only: template
.PHONY: test-template
test-template: .venv/installed ## The repository as a template: projects made from it are run, tested, updated
	@python -m pytest -q -m template $(ARGS)

# end only
lab: .venv/installed ## JupyterLab on the notebooks; it asks for no news and no updates
	@jupyter lab --notebook-dir=nbs --LabApp.news_url=None --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate --LabApp.extension_manager=readonly $(ARGS)

export: .venv/installed ## The package from the notebooks (`dvc repro` does it by itself)
	@dvc repro -q export

clean-env: ## Remove .venv
	rm -rf .venv
