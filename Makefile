.PHONY: check lint format test bench docs

check: lint test docs  ## everything CI checks, and the docs

lint:  ## format, lint, types, import contracts
	ruff format --check .
	ruff check .
	mypy
	lint-imports

format:  ## mend what can be mended
	ruff format .
	ruff check --fix .

test:
	pytest

bench:  ## ratios, side by side, into benchmarks/results/
	python benchmarks/jpeg_surrogate.py
	python benchmarks/training_step.py

docs:  ## the README's and the docs' blocks, run as tests
	pytest tests/docs
