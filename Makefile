# SPDX-License-Identifier: Apache-2.0
# `make demo` and `make test` set up everything they need in .venv; the second time that takes no time.
#   make demo [VIDEO=file.mp4] [ARGS="..."]    play a scene to the node while its sensors fail
#   make test [ARGS="..."]                     all tests, reduced counts; make test-all: full counts
#   make lint                                  formatting, lint, bandit, types
#   make audit                                 known vulnerabilities of what .venv holds (asks an online database)
#   make setup                                 the robot side only
#   make setup-test                            the same, training and test packages too; runs nothing
#   make clean                                 remove what was built (keeps out/)
# PYTHON=python3.12 chooses the interpreter that .venv is made from.

SHELL := /bin/bash
PYTHON ?= python3
export PYTHON
ARGS ?=

.PHONY: help demo test test-all lint audit setup setup-test clean
help:
	@sed -n 's/^# \{0,1\}//; 2,10p' Makefile

setup:
	@scripts/setup robot

setup-test:
	@scripts/setup test

demo: setup
	@scripts/run python -m karmma_ros.cli.main demo $(if $(VIDEO),--video "$(VIDEO)") $(ARGS)

test: setup-test
	@scripts/test reduced $(ARGS)

test-all: setup-test
	@scripts/test full $(ARGS)

# Types: training/ is imported as karmma_training and benchmarks/ as karmma_benchmarks, found through links of that name.
lint: setup-test
	@scripts/run python -m ruff check .
	@scripts/run python -m ruff format --check .
	@scripts/run python -m bandit -q -c pyproject.toml -r karmma_ros training benchmarks scripts launch setup.py
	@mkdir -p build/types && ln -sfn ../../training build/types/karmma_training && ln -sfn ../../benchmarks build/types/karmma_benchmarks
	@MYPYPATH=build/types scripts/run python -m mypy -p karmma_ros -p karmma_training -p karmma_benchmarks

# In an environment of its own: what it needs is no dependency of ours.
audit: setup-test
	@test -x build/audit/bin/pip-audit || { $(PYTHON) -m venv build/audit && build/audit/bin/pip install -q pip-audit==2.10.1; }
	@build/audit/bin/pip-audit --path $$(echo .venv/lib/python3*/site-packages) $(ARGS)

clean:
	rm -rf .venv build install log .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info
	find karmma_ros training test -name __pycache__ -type d -prune -exec rm -rf {} +
