PYTHON ?= python3
PYTEST_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# By name: ruff would also format the code blocks of README.md and docs/.
CODE := precscope cli reports tests examples benchmarks

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help install demo paper test check static format format-check lint types wheel-guard clean

help: ## show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## create .venv with the pinned development environment

# Some systems ship Python without ensurepip; then their own pip fills the environment.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV) || { $(PYTHON) -m venv --clear --without-pip $(VENV) && \
		$(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install -c constraints.txt --group dev hatchling
	$(BIN)/python -m pip install -c constraints.txt --no-build-isolation -e '.[examples]'
	touch $@

demo: install ## analyze a small CNN on real data and write a report
	$(BIN)/precscope analyze examples/digits_cnn.py

paper: install ## the paper reproduced: six domains, some 80 minutes of one core; resumes
	$(BIN)/python benchmarks/paper.py --write docs/paper.md

test: install ## run the tests; PYTEST_ARGS="-k name" selects
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: static test wheel-guard ## everything that has to pass

static: format-check lint types ## the formatter, ruff and mypy

format: install ## format the code and sort the imports
	$(BIN)/ruff check --select I --fix --quiet $(CODE)
	$(BIN)/ruff format $(CODE)

format-check: install
	$(BIN)/ruff format --check $(CODE)

lint: install ## look for mistakes with ruff
	$(BIN)/ruff check $(CODE)

types: install ## check the types with mypy --strict
	$(BIN)/mypy

wheel-guard: install ## build the wheel and check what is in it
	rm -rf build/wheel
	$(BIN)/python -m build --wheel --no-isolation --outdir build/wheel .
	$(BIN)/python tests/packaging/check_wheel.py build/wheel/*.whl

clean: ## remove what was built; .venv and precscope-runs stay
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -type d -prune -exec rm -rf {} +
