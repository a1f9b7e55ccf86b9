# A folder that holds imagenette/{train,val}, for the benchmarks that want photographs.
DATA ?= ../shared/data

.PHONY: check lint public-types format test bench bulk service fuzz hostile soak docs gpu-check

check: lint test docs  ## everything CI checks, and the docs

lint:  ## format, lint, types, import contracts
	ruff format --check .
	ruff check .
	mypy
	lint-imports

public-types:  ## does a type checker know the type of every public name? wants `pip install basedpyright`, or pyright
	basedpyright --verifytypes precomp_sdk --ignoreexternal

format:  ## mend what can be mended
	ruff format .
	ruff check --fix .

test:
	pytest

bench:  ## ratios, side by side, into benchmarks/results/
	python benchmarks/jpeg_proxy.py $(DATA)/imagenette/val
	python benchmarks/codecs.py $(DATA)/imagenette/val
	python benchmarks/proxy_designs.py $(DATA)/imagenette/train $(DATA)/imagenette/val
	python benchmarks/training_step.py
	python benchmarks/evaluator_sizes.py

bulk:  ## a job of 10,000 images that is killed twice; workers beside processes of their own; how often evaluation encodes
	python benchmarks/bulk_job.py --photos $(DATA)/kodak
	python benchmarks/workers.py --photos $(DATA)/kodak --ray
	python benchmarks/evaluation_encodes.py

service:  ## ten minutes of load on the service of examples/service: images a second, p50, p99, memory
	python examples/service/load.py --minutes 10 --output benchmarks/results/service.json

fuzz:  ## 10^6 damaged payloads over all codecs, in parts: stop it whenever, it goes on; benchmarks/results/fuzz.md
	python benchmarks/fuzz.py --payloads 1000000

hostile:  ## what files made to cost time cost; benchmarks/results/hostile_files.md
	python benchmarks/hostile_files.py

soak:  ## half an hour of encoding and decoding from 8 threads: memory, descriptors and threads stay flat
	python benchmarks/soak.py --minutes 30

gpu-check:  ## is the JPEG proxy exact on CUDA, is a training step right and how fast? skipped where there is no GPU
	python benchmarks/gpu_check.py

docs:  ## bring the generated parts up to date, run every block, build the site into site/
	python docs/_tools/generate.py
	pytest tests/docs
	NO_MKDOCS_2_WARNING=1 python -m mkdocs build --strict
