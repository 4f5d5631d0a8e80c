# SPDX-License-Identifier: GPL-2.0-only
# The front door. Each target is one line onto `python -m harness` or pytest, after the set-up.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Several kernels at once would only get in each other's way; make's own -j means nothing here.
.NOTPARALLEL:

HARNESS = .venv/bin/python -m harness $(if $(V),-v)
option = $(if $($(1)),--$(2) '$($(1))')
TREE_OPTIONS = $(call option,KDIR,kdir) $(call option,SOURCE,source) $(call option,SERIES,series) $(call option,VARIANT,variant)
KERNEL_OPTIONS = $(call option,KERNEL,kernel) $(TREE_OPTIONS)
GUEST_OPTIONS = $(call option,CPUS,cpus)
RUN_OPTIONS = $(call option,SEED,seed) $(call option,MEMORY,memory) $(call option,ACCEL,accel) \
	$(call option,PREFIX,prefix) $(call option,FRAGMENT,fragment) $(call option,KNOWN,known)
SHARD_OPTIONS = $(if $(N),-n '$(N)')
CHECK_OPTIONS = $(call option,GROUP,group) $(call option,CHECK,check) $(call option,SECTION,section)

BENCH_OPTIONS = $(call option,BENCH,row) $(call option,ROUNDS,rounds) $(call option,SERVER,server)
BISECT_OPTIONS = $(TREE_OPTIONS) $(GUEST_OPTIONS) $(call option,CHECK,check) $(call option,SECTION,section) \
	$(call option,BENCH,row) $(call option,WORSE,worse) $(call option,CONFIDENCE,confidence) $(if $(ANY),--any) $(if $(RESTART),--restart)
BESIDE_OPTIONS = $(call option,KERNEL_B,kernel-b) $(call option,SERVER_B,server-b)

.PHONY: help
help:
	@sed -n 's/^#: //p' Makefile

#: make vm-test     build the patched kernel, boot it, run checks in it
.PHONY: vm-test
vm-test: .venv/.ready
	$(HARNESS) vm-test $(KERNEL_OPTIONS) $(GUEST_OPTIONS) $(RUN_OPTIONS) $(CHECK_OPTIONS) $(SHARD_OPTIONS)

#: make xfstests    the same with a real xfstests tree: XFSTESTS=/path [GROUP=quick] [TESTS='generic/00*']
.PHONY: xfstests
xfstests: .venv/.ready
	$(HARNESS) xfstests $(KERNEL_OPTIONS) $(GUEST_OPTIONS) $(RUN_OPTIONS) $(SHARD_OPTIONS) $(call option,GROUP,group) $(call option,TESTS,check) $(call option,SECTION,section) '$(or $(XFSTESTS),$(error XFSTESTS= names the xfstests tree))'

#: make test        all of the project's tests: unit tests, then every check that is meant to pass
.PHONY: test
test: GROUP ?= auto
test: .venv/.ready-dev
	.venv/bin/python -m pytest tests/unit tests/lab tests/checks $(KERNEL_OPTIONS) $(GUEST_OPTIONS) $(RUN_OPTIONS) $(CHECK_OPTIONS) $(SHARD_OPTIONS)

#: make unit        unit tests only: seconds, no kernel, no guest
.PHONY: unit
unit: .venv/.ready
	.venv/bin/python -m pytest tests/unit

#: make breakages   break the series on purpose: do the checks notice?
.PHONY: breakages
breakages: .venv/.ready
	$(HARNESS) breakages $(call option,KDIR,kdir) $(call option,SOURCE,source) $(call option,SERIES,series) $(GUEST_OPTIONS)

#: make adjudicate  the last run's failures again, with and without the series: RUN=results/X
.PHONY: adjudicate
adjudicate: .venv/.ready
	$(HARNESS) adjudicate $(call option,BUDGET,budget) $(call option,BASELINE,baseline) $(call option,XFSTESTS,xfstests) $(call option,KDIR,kdir) $(call option,SOURCE,source) $(call option,SERIES,series) $(if $(RUN),'$(RUN)')

#: make differential which checks differ between stock and patched kernel, dev and uring: STOCK=bzImage GROUP= CHECK= XFSTESTS=
.PHONY: differential
differential: .venv/.ready
	$(HARNESS) differential $(call option,STOCK,stock) $(TREE_OPTIONS) $(GUEST_OPTIONS) $(call option,GROUP,group) \
		$(call option,CHECK,check) $(call option,XFSTESTS,xfstests) $(call option,TESTS,check) $(call option,SEED,seed) \
		$(call option,KNOWN,known) $(call option,N,guests)

#: make bench       what a request costs, and how many get through: ring and device
.PHONY: bench
bench: .venv/.ready
	$(HARNESS) bench $(KERNEL_OPTIONS) $(GUEST_OPTIONS) $(BENCH_OPTIONS) $(BESIDE_OPTIONS) $(if $(NATIVE),--native) $(if $(README),--readme) $(call option,PROFILE,profile)

#: make bench-gate  fail when a deterministic cost has grown by more than 1 % since BASE=results/X
.PHONY: bench-gate
bench-gate: .venv/.ready
	$(HARNESS) bench-gate $(KERNEL_OPTIONS) $(GUEST_OPTIONS) $(BENCH_OPTIONS) $(call option,BASE,base) $(call option,RUN,run)

#: make bisect-series CHECK=uring/007   the first patch of the series that breaks a check
.PHONY: bisect-series
bisect-series: .venv/.ready
	$(HARNESS) bisect-series $(BISECT_OPTIONS) $(if $(REVERSE),--reverse) $(call option,GOOD_SERIES,good-series)

#: make bisect GOOD=COMMIT BAD=COMMIT KDIR=~/linux CHECK=uring/007   the first git commit that breaks it
.PHONY: bisect
bisect: .venv/.ready
	$(HARNESS) bisect $(BISECT_OPTIONS) $(call option,GOOD,good) $(call option,BAD,bad)

#: make vm-shell    a shell in a guest with the patched kernel and the servers at hand
.PHONY: vm-shell
vm-shell: .venv/.ready
	$(HARNESS) shell $(KERNEL_OPTIONS) $(GUEST_OPTIONS)

#: make vm-gdb      the same guest, stopped, with gdb attached
.PHONY: vm-gdb
vm-gdb: .venv/.ready
	$(HARNESS) gdb $(KERNEL_OPTIONS) $(GUEST_OPTIONS)

#: make kernel      only build the patched kernel
.PHONY: kernel
kernel: .venv/.ready
	$(HARNESS) build $(TREE_OPTIONS)

#: make lint        style and types of the harness, and the CI examples
.PHONY: lint
lint: .venv/.ready-dev
	.venv/bin/ruff check harness tests/unit
	.venv/bin/ruff format --check harness tests/unit
	.venv/bin/mypy --strict harness
	.venv/bin/check-jsonschema --builtin-schema vendor.github-workflows examples/ci/github-actions.yml
	.venv/bin/check-jsonschema --builtin-schema vendor.gitlab-ci --data-transform gitlab-ci examples/ci/gitlab-ci.yml
	.venv/bin/yamllint --strict -c examples/ci/.yamllint examples/ci

#: make setup       system packages and libraries; the targets above do it by themselves
.PHONY: setup
setup: .venv/.ready

#: make clean       remove what was built here; the cache stays (python -m harness cache --prune)
.PHONY: clean
clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache build/guest

.venv/.ready: harness/bootstrap apt-packages.txt requirements.lock
	@harness/bootstrap

.venv/.ready-dev: .venv/.ready requirements-dev.lock
	@harness/bootstrap dev

#:
#: variables (make vm-test GROUP=auto CHECK=uring/007):
#:   GROUP=     group of checks: quick (default), auto, rw, stress, ...
#:   CHECK=     one check, or several: uring/007, 'data/*'
#:   SECTION=   dev or uring (default: both)
#:   VARIANT=   debug kernels: kasan, lockdep, kcsan, kmemleak, slub; joined by commas
#:   CPUS=      virtual CPUs of the guest
#:   N=         so many guests at once; auto: as many as CPUs and memory allow
#:   KERNEL=    boot this bzImage, or the one in this folder; build nothing
#:   KDIR=      base tree: your own; only read, never written
#:   SOURCE=    base tree: a tarball, or REPOSITORY#REF
#:   SERIES=    folder of patches, or none (default: kernel-patches/VERSION)
#:   PREFIX=    only so many patches of it; FRAGMENT=FILE: instead of Kconfig.fragment
#:   SEED=      for the random parts of checks (1); MEMORY=MiB and ACCEL=kvm or tcg: of the guest
#:   KNOWN=     folder with known failures of yours, as tests/known-failures: BASE/SECTION.toml
#:   BENCH=     rows of make bench: 'cost/*', throughput/meta-4, export, krpc, ...
#:   ROUNDS=    how often each figure is measured
#:   SERVER=    the server to measure: a mirrorfs, or a command with {source} and {mountpoint}
#:   KERNEL_B= SERVER_B=  a second one beside it: a is ours, b is this
#:   NATIVE=1   also on this machine's own kernel (root)
#:   README=1   BENCH=export: put table and picture into README.md
#:   PROFILE=   only: where the instructions of this row go, by function
#:   BASE=      make bench-gate: the run to compare with; RUN=results/Y: compare that one, measure nothing
#:   BUDGET=    make adjudicate: so many minutes (10); BASELINE=PATH: the good kernel, built already
#:   GOOD= BAD= make bisect: a commit of KDIR that passes, and a later one that fails
#:   WORSE=1%   make bisect...: with BENCH=cost/ROW, by how much it has become dearer
#:   GOOD_SERIES= folder of the series as it was: costs are compared patch by patch
#:   REVERSE=1  make bisect-series: drop one patch at a time; which drops heal the check?
#:   ANY=1      make bisect...: any failure counts, not only one like that of the bad end
#:   CONFIDENCE= make bisect...: how sure the answer must be (0.95); RESTART=1: forget an interrupted one
#:   V=1        print each command and stream its output
#:
#: make itself ends with status 2 whatever fails; `python -m harness` says more by its status:
#: 1 what you brought fails, 2 usage, 3 trouble in the lab.
