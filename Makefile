# make          set the environment up in .venv
# make test     run the everyday tests   make lint    check the style
# make test-slow                         run those that train long or start many processes
# make test-all                          run both kinds
# make test-long                         train at full size for an hour, as the goals have it
# make test-installed                    run those of the panel on what CMake installs
# make check-extension                   check what the Extensions Index asks for
# make demo     see it work; IMAGE=scan.nrrd segments that scan instead
# make bench    the benchmark table; ROWS="forward click" some of it
# make clean    remove what was made     make missing name system libraries to install

VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.complete
TORCH := torch==2.13.0
# of nnU-Net, alone: what it names as needed brings another torch, and is for other networks
NETWORKS := dynamic_network_architectures==0.4.4
LIBRARIES := libEGL.so.1:libegl1 libGL.so.1:libgl1 libxkbcommon.so.0:libxkbcommon0 \
	libglib-2.0.so.0:libglib2.0-0 libfontconfig.so.1:libfontconfig1 libdbus-1.so.3:libdbus-1-3

export QT_QPA_PLATFORM ?= offscreen
export VTK_DEFAULT_OPENGL_WINDOW ?= vtkEGLRenderWindow

.PHONY: env libraries missing test test-slow test-all test-long test-installed check-extension lint demo bench clean
.NOTPARALLEL:

env: libraries $(STAMP)

# torch first and alone, so that nothing else decides which build of it is taken.
$(STAMP): requirements-dev.txt
	@base=; for p in python3.11 python3.12; do \
	  if $$p -c 'import venv, ensurepip' >/dev/null 2>&1; then base=$$p; break; fi; done; \
	if [ -z "$$base" ]; then \
	  echo 'Python 3.11 or 3.12 with venv is needed (Debian: apt-get install python3.11-venv)' >&2; \
	  exit 1; fi; \
	if [ ! -x $(PYTHON) ]; then echo "creating $(VENV) with $$base"; $$base -m venv $(VENV); fi
	$(PYTHON) -m pip install --quiet $(TORCH)
	$(PYTHON) -m pip install --quiet -r requirements-dev.txt
	$(PYTHON) -m pip install --quiet --no-deps $(NETWORKS)
	@touch $@

# The packages of the libraries that the headless Slicer would miss; without ldconfig, none.
MISSING = $(strip $(shell PATH="$$PATH:/sbin:/usr/sbin"; known=$$(ldconfig -p 2>/dev/null) || exit 0; \
	for pair in $(LIBRARIES); do \
	  echo "$$known" | grep -qF "$${pair%%:*} " || echo "$$pair" | cut -d: -f2; done))

# and the server of the tests over ssh, which are skipped without it
SSHD = $(shell PATH="$$PATH:/usr/sbin" command -v sshd >/dev/null || echo openssh-server)

missing:
	@echo "$(strip $(MISSING) $(SSHD))"

libraries:
	@names="$(MISSING)"; if [ -n "$$names" ]; then \
	  echo "missing system libraries: apt-get install $$names" >&2; exit 1; fi

# a process for each core, with one thread each
PYTEST := -m pytest --numprocesses auto --dist loadfile

test: env
	@OMP_NUM_THREADS=1 $(PYTHON) $(PYTEST) -m "not slow"

# the figures of the campaigns come after the summary of the processes
test-slow: KIND := -m "slow and not long"
test-all: KIND := -m "not long"
test-long: KIND := -m long -n 0
test-slow test-all test-long: env
	@mkdir -p build && rm -f build/figures.txt
	@UGMCL_FIGURES="$(CURDIR)/build/figures.txt" OMP_NUM_THREADS=1 $(PYTHON) $(PYTEST) --no-loadscope-reorder $(KIND); \
	  code=$$?; cat build/figures.txt 2>/dev/null; exit $$code

test-installed: env
	@rm -rf build/cmake build/installed && mkdir -p build
	@$(VENV)/bin/cmake -C Testing/cmake/initial-cache.cmake -S . -B build/cmake > build/cmake.log \
	  && $(VENV)/bin/cmake --install build/cmake --prefix build/installed > build/install.log
	@cd build && UGMCL_INSTALLED="$(CURDIR)/build/installed/lib/Slicer-5.12/qt-scripted-modules" \
	  OMP_NUM_THREADS=1 "$(CURDIR)/$(PYTHON)" -P $(PYTEST) -m "not slow" "$(CURDIR)/Testing/slicer"

check-extension: env
	@$(PYTHON) Testing/check_extension.py

lint: env
	@$(PYTHON) -m ruff check

demo: env
	@$(PYTHON) Testing/demo.py $(if $(IMAGE),--image "$(IMAGE)")

bench: env
	@$(PYTHON) Testing/benchmarks/bench.py $(ROWS) $(if $(DATA),--data "$(DATA)")

clean:
	rm -rf out build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
