# make setup  install into .venv, nothing more
# make demo   serve the samples on http://127.0.0.1:8000 with a plan computed
# make test   run every test, in WORKERS processes but for those that measure a time
# make test-newest  run the tests of the DICOM code with the newest pydicom and highdicom, in .venv-newest
# make lint   style, types, arrows between the packages
# make bench  print the tables of benchmarks/ that run on the samples
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
CHECK_PYTHON = @$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info[:2] <= (3, 12) or sys.exit("Python 3.11 or 3.12 is needed; found " + sys.version.split()[0] + ". Call make PYTHON=/path/to/python3.11")'
PORT ?= 8000
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
NEWEST := .venv-newest
DICOM_TESTS := tests/cases/formats tests/cases/discovery tests/cases/dicom_seg tests/cases/dicomweb tests/labels
DEMO := build/demo

.PHONY: setup demo test test-newest lint bench clean

setup: $(VENV)/runtime.stamp

demo: $(VENV)/runtime.stamp
	@mkdir -p $(DEMO)
	@cp -R samples/sts $(DEMO)/
	$(BIN)/python main.py serve $(DEMO)/sts --port $(PORT) --conf study_labels=ignore

test: $(VENV)/development.stamp
	sh tests/debian_packages.sh
	$(BIN)/pytest -m alone
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not alone" --numprocesses $(WORKERS)

test-newest:
	$(CHECK_PYTHON)
	$(PYTHON) -m venv --clear $(NEWEST)
	$(NEWEST)/bin/pip install --quiet --progress-bar off -r requirements-newest.txt
	$(NEWEST)/bin/pip install --quiet --progress-bar off --no-deps $(shell grep ^monailabel== requirements.txt)
	$(NEWEST)/bin/pytest -m "not slow and not alone" --numprocesses $(WORKERS) $(DICOM_TESTS)

lint: $(VENV)/development.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/development.stamp
	$(BIN)/python -m benchmarks.server.next_sample
	$(BIN)/python -m benchmarks.ciml.first_round

clean:
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/runtime.stamp: requirements.txt constraints.txt
	$(CHECK_PYTHON)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --progress-bar off -r requirements.txt -c constraints.txt
	touch $@

$(VENV)/development.stamp: $(VENV)/runtime.stamp requirements-dev.txt
	$(BIN)/pip install --quiet --progress-bar off -r requirements-dev.txt -c constraints.txt
	touch $@
