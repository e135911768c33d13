# Everything a person types here. `make` alone lists it.

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help run test soak sim branches crash mutants fuzz bench bench-compare bench-micro check demo setup proto clean golden man

# Debian packages: what ecfs needs to be installed and to mount, and what only the tests use.
APT_RUN := python3 python3-venv python3-dev gcc pkg-config libfuse3-dev fuse3
APT_TEST := git attr acl bindfs e2fsprogs xfsprogs rsync make libc6-dev qemu-utils iproute2 nftables systemd \
	chromium chromium-driver prometheus

BIN := .venv/bin
READY := .venv/.ready
TEST_READY := .venv/.test-ready
BENCH_READY := .venv/.bench-ready

help:
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

run: $(READY) ## make a pool in ./drives if there is none, and mount it at ./mnt
	@mkdir -p mnt 2>/dev/null || true # what is wrong with ./mnt, ecfs says better
	@$(BIN)/ecfs mount ./drives ./mnt
	@echo "Use it:   cp a-file mnt/    (./mnt is a folder like any other)"
	@echo "Look:     $(BIN)/ecfs status    (which drives are there, what to do)"
	@echo "Stop it:  $(BIN)/ecfs umount ./mnt"

test: $(TEST_READY) ## run the test suite, real mounts included
	@$(BIN)/pytest -n 2 -m "not soak and not mount"; first=$$?; $(BIN)/pytest -m "not soak and mount" && exit $$first

soak: $(TEST_READY) ## run the long tests, minutes each
	@$(BIN)/pytest -m soak --timeout 3600

SEED ?= 0
SEEDS ?= 1
STEPS ?= 300
MIX ?= everything

sim: $(TEST_READY) ## replay one simulated history: make sim SEED=7 MIX=everything (SEEDS=100 for many)
	@$(BIN)/python -m tests.sim --seed $(SEED) --seeds $(SEEDS) --steps $(STEPS) --mix $(MIX)

BRANCHES := $(BIN)/coverage run --parallel-mode --source=ecfs.commit,ecfs.journal,ecfs.stripes,ecfs.heal

branches: $(TEST_READY) ## which branches simulator and crash tests reach: make branches SEEDS=45 (half an hour)
	@for mix in broken busy crashes everything harmed lapses rivals tight; do \
		$(BRANCHES) -m tests.sim --seed $(SEED) --seeds $(SEEDS) --steps $(STEPS) --mix $$mix || exit 1; done
	@$(BRANCHES) -m pytest -q tests/crash tests/sim/test_histories.py
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --show-missing --skip-covered
	@mkdir -p build
	@$(BIN)/coverage json --quiet -o build/branches.json
	@$(BIN)/python -m tests.sim.branches build/branches.json

crash: $(TEST_READY) ## cut the power and fail every drive operation in turn, hours
	@$(BIN)/pytest tests/crash -m "soak or not soak" --timeout 7200

SECONDS ?= 60
TARGET ?=

fuzz: $(TEST_READY) ## hostile bytes for every parser: make fuzz SECONDS=600 TARGET=record
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(TARGET)

mutants: $(TEST_READY) ## put a deliberate fault into a copy of ecfs, one at a time: does a test notice?
	@$(BIN)/python -m tests.mutants

ROWS ?=
ROUNDS ?= 3
CONTENDERS ?=
MIB ?= 256
FILES ?= 3000
BASE ?= main
BENCH = --rounds $(ROUNDS) --mib $(MIB) --files $(FILES) $(if $(ROWS),--rows $(ROWS))

bench: $(BENCH_READY) ## ecfs beside other file systems: make bench ROWS=untar CONTENDERS=ecfs,bindfs ROUNDS=5 (as root)
	@$(BIN)/python -m benchmarks $(BENCH) $(if $(CONTENDERS),--contenders $(CONTENDERS))

bench-compare: $(BENCH_READY) ## this checkout beside another revision: make bench-compare BASE=main ROWS=untar (as root)
	@$(BIN)/python -m benchmarks.compare $(BASE) $(BENCH)

bench-micro: $(READY) ## what one step of codec, shard, journal, metadata and drive takes
	@$(BIN)/python -m benchmarks.micro
golden: $(TEST_READY) ## write what status says of every state anew, into tests/golden; read the difference
	@$(BIN)/python -m tests.golden

man: $(TEST_READY) ## write man pages and shell completion into build/share, from the commands themselves
	@$(BIN)/python tools/make-man build/share

check: $(READY) ## check style, types and who imports whom
	@$(BIN)/ruff check ecfs tests benchmarks
	@$(BIN)/ruff format --check ecfs tests benchmarks
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache --no-logo

demo: $(READY) ## lose drives and get every byte back, in a temporary folder
	@$(BIN)/ecfs demo

setup: $(TEST_READY) ## install what is missing and make .venv/bin/ecfs
	@echo "$(BIN)/ecfs is ready"

proto: $(READY) ## write ecfs/rpc/drive_pb2.py anew from drive.proto
	@$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. ecfs/rpc/drive.proto

clean: ## delete .venv and everything built; never ./drives
	rm -rf .venv build dist *.egg-info .coverage .coverage.* htmlcov
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find ecfs tests benchmarks -type d -name __pycache__ -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt tools/install-packages tools/make-venv Makefile
	@tools/install-packages $(APT_RUN)
	@tools/make-venv
	@touch $@

$(TEST_READY): $(READY)
	@tools/install-packages $(APT_TEST)
	@touch $@

$(BENCH_READY): $(TEST_READY)
	@PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install -q --disable-pip-version-check -e '.[bench]'
	@touch $@
