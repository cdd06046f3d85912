# Everything that one does with a checkout. The first two need nothing but Python 3.11, git, make and a package index.

.PHONY: help run test check fix bench chaos lock docs clean

unexport PYTHONDONTWRITEBYTECODE # tests start hundreds of servers, which load compiled modules in half the time

PY := .venv/bin/python
WORKERS ?= $(shell expr $$(nproc 2>/dev/null || echo 1) + 1)
PYTEST := -m pytest -n $(WORKERS) --dist loadscope

help:
	@echo "make run     start Buildyard on http://127.0.0.1:8010 and let it build itself; Ctrl-C stops it"
	@echo "make test    install what is needed and run every test"
	@echo "make check   what CI runs: format, lint, types, import contracts, spelling, dead code, documents, tests"
	@echo "make fix     format, and repair what the linter can repair"
	@echo "make bench   measure, beside Buildbot and ninja"
	@echo "make chaos   kill, cut and fill what runs, two hundred times, and see that nothing is lost"
	@echo "make docs    write the generated documents anew"
	@echo "make lock    write locks/*.txt anew (make lock UPGRADE=--upgrade)"

run:
	@tools/make_venv.sh runtime
	@$(PY) tools/first_run.py

test:
	@tools/make_venv.sh dev
	@tools/install_parts.sh
	@$(PY) $(PYTEST) $(TESTS)

check:
	@tools/make_venv.sh dev
	@tools/install_parts.sh
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache
	.venv/bin/codespell
	.venv/bin/vulture
	$(PY) tools/generate_docs.py --check --strict
	$(PY) $(PYTEST) $(TESTS)

fix:
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

bench:
	@tools/make_venv.sh dev
	$(PY) -m bench $(BENCH)

chaos:
	@tools/make_venv.sh dev
	@tools/install_parts.sh
	PYTHONPATH=tests $(PY) -m e2e.chaos $(CHAOS)

docs:
	@tools/make_venv.sh dev
	$(PY) tools/generate_docs.py

lock:
	@tools/make_venv.sh dev
	tools/lock.sh $(UPGRADE)

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
