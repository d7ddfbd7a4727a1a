# The human entry: `make help`. Each target is a script under scripts/, which can be called by itself.
# What set-up makes is kept outside the tree: CAIRNFS_CACHE= (default ~/.cache/cairnfs).

SHELL := /bin/bash
.DEFAULT_GOAL := help
ifdef CAIRNFS_CACHE
export CAIRNFS_CACHE
endif

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

.PHONY: setup
setup: ## packages, bindgen, virtme-ng and a Rust-enabled kernel; a second run starts at once
	@scripts/setup

.PHONY: module
module: ## build cairnfs.ko; KDIR=<kernel build tree> [ARCH=um] for a kernel of your own
ifdef KDIR
	@scripts/setup --kernel=none
	@scripts/build-module --kdir='$(KDIR)' --arch='$(ARCH)'
else
	@scripts/setup
	@scripts/build-module --arch='$(ARCH)'
endif

.PHONY: tools
tools: setup ## build the user-space programs
	@scripts/build-tools

.PHONY: shell
shell: module ## a virtual machine with the module loaded and a disk mounted, to try things by hand
	@scripts/vm shell

.PHONY: check
check: ## before each commit: lint and core's quick tests, two minutes
	@scripts/test lint core

.PHONY: lint
lint: setup ## format, clippy, the fences around unsafe code, shell scripts
	@scripts/lint

.PHONY: test
test: ## every tier of tests; the last line is `N passed, N failed`
	@scripts/test

.PHONY: test-debug
test-debug: ## the VM tests on a kernel with KASAN and lockdep, built first where it is missing; an hour
	@scripts/test-debug

.PHONY: demo
demo: setup ## real data, a power cut in the middle of the work, and the proof that nothing synced is lost
	@scripts/demo

.PHONY: test-bare
test-bare: ## set-up and demo in a fresh Debian 12 that has nothing else (as root; takes long)
	@scripts/test-bare

.PHONY: clean
clean: ## remove what was built in this checkout; the cache stays
	rm -rf build
