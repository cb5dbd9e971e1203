# The commands of the project. Nothing needs root; everything is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin
TOOLS := .venv/tools/bin
# ansible refuses a terminal that is not UTF-8.
export LC_ALL := C.UTF-8
export ORT_DISABLE_TELEMETRY := 1

.PHONY: help quantize rollback test test-unit test-playbooks test-browser report-picture test-linux test-windows hosts-up hosts-down lint collection bench bench-linux bench-windows bench-workflow fuzz sbom audit clean requirements role-docs wheelhouse

help:
	@echo "make quantize   quantize and release with inventory/local (a demo on this machine)"
	@echo "make rollback   bring inventory/local back to FP32"
	@echo "make test       run test-unit and test-playbooks"
	@echo "make test-unit  run the tests of the Python code: the loop of a developer"
	@echo "make test-playbooks run the playbooks on this machine, and judge what they did"
	@echo "make test-browser look at the pages of the report with Debian's Chromium"
	@echo "make report-picture write docs/images/report.png, of the newest report"
	@echo "make test-linux run the tests on real systemd hosts of this machine (root, Debian)"
	@echo "make test-windows run the tests on Windows CPython behind a WinRM double (root, Debian)"
	@echo "make hosts-up   start those hosts by hand; make hosts-down ends them"
	@echo "make wheelhouse download the builder's packages, for a builder without a package index"
	@echo "make lint       run the linters"
	@echo "make collection let ansible-test judge the tree, laid out as a collection"
	@echo "make role-docs  write the README.md of each role and docs/variables.md"
	@echo "make bench      measure against the stock quantizer, by form, and on real models"
	@echo "make bench-linux measure a release on those hosts: transfer, downtime, rollback"
	@echo "make bench-windows measure the bridge, quantizing and the push on the Windows bed"
	@echo "make bench-workflow measure the whole way of a run at 4.3 GB and at the real shapes"
	@echo "make fuzz       feed broken models to the quantizer for FUZZ_SECONDS (120)"
	@echo "make sbom       list all packages, their hashes and licences, in sbom/ (CycloneDX)"
	@echo "make audit      ask an index of advisories about every pinned package"
	@echo "make clean      remove what the demo made, and the environment"

quantize: .venv/project
	$(BIN)/ansible-playbook quantize.yml

rollback: .venv/project
	$(BIN)/ansible-playbook rollback.yml

test: test-unit test-playbooks

test-unit: .venv/dev
	$(BIN)/pytest --durations=15 tests/unit

test-playbooks: .venv/dev
	$(BIN)/pytest --durations=15 tests/playbooks

test-browser: .venv/browser
	$(BIN)/pytest -n 0 tests/browser

# The picture of README.md, of the newest report: after `make quantize`.
report-picture: .venv/browser
	$(BIN)/python tests/browser/picture.py "$$(ls -t reports/*/report.html | head -1)" docs/images/report.png

test-linux: .venv/dev
	@# Alone: it looks for what a bed leaves behind. The others wait more than they work.
	$(BIN)/pytest -n 0 tests/hosts/linux/test_bed.py
	$(BIN)/pytest -n 3 tests/hosts/linux --ignore tests/hosts/linux/test_bed.py

test-windows: .venv/dev
	@# As above: more workers than cores, since they wait more than they work.
	$(BIN)/pytest -n 3 tests/hosts/windows

hosts-up: .venv/dev
	$(BIN)/python tests/hosts/linux/bed.py up

hosts-down: .venv/dev
	$(BIN)/python tests/hosts/linux/bed.py down

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/yamllint --strict .
	$(BIN)/ansible-lint --offline --strict
	$(MAKE) --no-print-directory collection

collection: .venv/dev
	$(BIN)/python tests/collection.py

role-docs: .venv/dev
	$(BIN)/python tests/role_docs.py

bench: .venv/dev
	@status=0; for bench in quantizer forms recipes real_models; do $(BIN)/python tests/bench/$$bench.py || status=1; done; exit $$status

bench-linux: .venv/dev
	$(BIN)/python tests/bench/release.py

bench-windows: .venv/dev
	$(BIN)/python tests/bench/windows.py

bench-workflow: .venv/dev
	$(BIN)/python tests/bench/workflow.py

fuzz: .venv/dev
	$(BIN)/python tests/fuzz/graph_reader.py

# Exactly the pinned wheels of PLATFORM and PYTHON_VERSION. For Linux several tags are named:
# make wheelhouse PLATFORM="manylinux_2_28_x86_64 manylinux2014_x86_64" PYTHON_VERSION=3.11
PLATFORM ?= win_amd64
PYTHON_VERSION ?= 3.12
wheelhouse: .venv/project
	$(BIN)/python -m modelops.environment.wheelhouse wheelhouse requirements/builder.txt requirements/builder-gpu.txt --platform $(PLATFORM) --python $(PYTHON_VERSION)

# A file for each set of pins, with the hashes; the licences are known of what is installed here.
SETS := project builder builder-gpu models dev browser tools
sbom: .venv/dev .venv/tools/made
	@mkdir -p sbom
	for set in $(SETS); do $(TOOLS)/cyclonedx-py requirements requirements/$$set.txt --output-reproducible --of JSON -o sbom/$$set.cdx.json || exit 1; done
	$(TOOLS)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --of JSON -o sbom/installed.cdx.json $(BIN)/python

audit: .venv/tools/made
	$(TOOLS)/python tests/advisories.py

clean:
	rm -rf var reports sbom .venv .ansible .mypy_cache .pytest_cache .ruff_cache .hypothesis

.venv/created:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if v >= (3, 11) else "Python 3.11 or newer is needed, this is %d.%d: make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv .venv
	@# So that `.venv/bin/python -m modelops` works from any folder.
	@$(BIN)/python -c 'import pathlib, sysconfig; pathlib.Path(sysconfig.get_path("purelib"), "modelops.pth").write_text(str(pathlib.Path("module_utils").resolve()))'
	@touch $@

# Everything is pinned with its hashes, so pip has nothing to resolve.
.venv/project: .venv/created requirements/project.txt
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements/project.txt
	@touch $@

.venv/dev: .venv/project requirements/dev.txt requirements/models.txt
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements/dev.txt -r requirements/models.txt
	@touch $@

.venv/browser: .venv/dev requirements/browser.txt
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements/browser.txt
	@touch $@

.venv/tools/made: .venv/created requirements/tools.txt
	$(PYTHON) -m venv .venv/tools
	$(TOOLS)/python -m pip install --quiet --no-deps --require-hashes -r requirements/tools.txt
	@touch $@

# Pins again what requirements/*.in name, for Python 3.11 to 3.13 at once.
requirements: .venv/tools/made
	for set in project dev browser builder builder-gpu tools; do UV_CUSTOM_COMPILE_COMMAND="make requirements" $(TOOLS)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --upgrade requirements/$$set.in -o requirements/$$set.txt || exit 1; done
	UV_CUSTOM_COMPILE_COMMAND="make requirements" $(TOOLS)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-deps --upgrade requirements/models.in -o requirements/models.txt
