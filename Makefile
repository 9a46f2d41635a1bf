# Two commands on a fresh machine: `make demo` and `make test`. Python 3.11+, make and a network are all it takes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_STEPS ?= 3000

.PHONY: demo test install lint format bench bench-2d bench-collapse bench-digits docs evidence lowest explore release clean

demo: install  ## train BEGAN on the built-in demo data, to a report
	$(BIN)/gankit run began --data demo --steps $(DEMO_STEPS)

test: install  ## the whole test suite
	$(BIN)/pytest -n 2

install: $(VENV)/.installed  ## into .venv, with the test tools

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gankit needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

lint: install  ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install  ## speed, as ratios to a plain reference loop in the same run
	$(BIN)/python benchmarks/speed.py

bench-digits: install  ## modes of stacked digits caught by BEGAN and EBGAN, plain and cured
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/stacked_digits.py

bench-2d: install  ## modes caught on a ring and a grid of Gaussians, five seeds
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/two_dimensional.py

bench-collapse: install  ## the collapse detector on labelled streams; ILLUSTRATIONS=FOLDER for all of them
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/collapse.py $(if $(ILLUSTRATIONS),--illustrations $(ILLUSTRATIONS))

docs: install  ## the documentation as a site under build/docs; fails on a dead link
	$(BIN)/mkdocs build --strict

# Where the promises of docs/promises.md are attacked.
ATTACKS := tests/cli/test_trust.py tests/cli/test_hostile.py tests/project/test_fuzz.py tests/training/test_checkpoint.py \
	tests/training/test_kills.py tests/training/test_resume.py tests/data/test_data.py

# Each table of docs/evidence names its own command; those of result files, by the sum of the trainings in them, of one thread:
# make bench-2d 15 minutes, make bench-digits 32 minutes. `gankit compare` of models.md 65 minutes.
evidence: install  ## slower proofs, minutes each, hours together; fails where a figure of docs/evidence is not its result file's
	$(BIN)/pytest tests/project/test_evidence.py
	$(BIN)/pytest -n 2 -m slow --junitxml=build/slow.xml
	$(BIN)/pytest -n 2 $(ATTACKS) --junitxml=build/attacks.xml
	$(BIN)/python docs/figures.py build/slow.xml build/attacks.xml

# Where gankit meets other packages: commands, pictures, pages, ONNX.
MEETINGS := tests/cli/test_cli.py tests/training/test_step.py tests/data tests/report/test_report.py tests/sharing/test_share.py tests/sharing/test_export.py

lowest:  ## these tests with the oldest packages that pyproject.toml allows, in build/lowest
	$(PYTHON) -m venv --clear build/lowest
	build/lowest/bin/python -m pip install --quiet uv
	build/lowest/bin/uv pip install --python build/lowest/bin/python --quiet --resolution lowest-direct --editable ".[dev]"
	OMP_NUM_THREADS=1 build/lowest/bin/python -m pytest $(MEETINGS)

explore:  ## the page of gankit explore, in build/explore: with Gradio other packages have other versions
	$(PYTHON) -m venv --clear build/explore
	build/explore/bin/python -m pip install --quiet --editable ".[dev,explore]"
	OMP_NUM_THREADS=1 build/explore/bin/python -m pytest tests/trained/test_explore.py

release: install  ## the wheel and the source distribution, into dist/
	rm -rf dist
	$(BIN)/python -m hatchling build

clean:
	rm -rf $(VENV) dist build
