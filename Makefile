# make demo and make test are all that a newcomer needs; both install what is missing first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: install demo test test-slow test-gpu test-cluster fuzz check format clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "flopwise needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

# Synthetic images, a search of 24 short trials, and its front; a few minutes on 2 cores.
demo: install
	rm -rf demo
	$(BIN)/flopwise data demo demo/data --classes 24 --size 64
	cp examples/demo.yaml demo/study.yaml
	$(BIN)/flopwise search demo/study.yaml
	@echo
	@echo 'That was synthetic data. With photographs of your own, one folder for each class:'
	@echo '  $(BIN)/flopwise data prepare PHOTOS data/mine'
	@echo '  cp examples/animals.yaml study.yaml    # then set data.path in it'
	@echo '  $(BIN)/flopwise search study.yaml'

# What needs a Ray in one process, everything else in another; $(BIN)/pytest alone does it in one.
test: install
	$(BIN)/python -m pytest --numprocesses 2

# The same tests for more families of models, and a search whose trials Ray kills for memory.
test-slow: install
	$(BIN)/python -m pytest -m slow

# What others test with the CPU in a GPU's place; without a GPU all of it is skipped.
test-gpu: install
	$(BIN)/python -m pytest -m gpu

# Three hosts on this machine, each in namespaces of its own: Linux, root, iproute2, openssh-server, rsync.
test-cluster: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cluster,dev]'
	$(BIN)/python -m pytest -m cluster tests

# Damages 2,000 valid inputs at random, and checks that each is refused in a line; some minutes.
fuzz: install
	$(BIN)/python tests/fuzz.py --inputs 2000

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo build *.egg-info .pytest_cache .ruff_cache
