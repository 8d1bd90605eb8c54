# make fmt | lint | test | bench   the four verbs
# make build | conformance | stress | bench-journal | bench-100k | bench-go | demo-replay | clean
#
# Variables: TRACE=FILE (demo-replay, bench-100k), DEMO="--subscribers 3000 …" (its flags), SEEDS=N (simulation), BENCH="--rounds 3 …" (flags of
# bench/run, bench/journal or bench/crowd), BENCH_GO=REGEXP, URL=ws://host:port/echo (conformance), STRESS=10m.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build

GO     ?= go
TOOL   := $(GO) tool -modfile=tools/go.mod
SEEDS ?= 500
BENCH  ?=
BENCH_GO ?= .
URL    ?=
STRESS ?= 3m
TRACE  ?= $(firstword $(wildcard ../shared/traces/live-stream-100k-viewers.csv) testdata/traces/small.csv)
DEMO   ?=

# Packages under the race detector: all tests that need no server. Chosen by leaving out what is too slow there.
RACE_SKIP := ^barrage/(deploy|test/demo|internal/repo)(/|$$)

.PHONY: build fmt lint check deps test conformance stress bench bench-journal bench-100k bench-go demo-replay clean

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/barrage ./cmd/barrage

fmt:
	$(TOOL) gofumpt -w .
	$(TOOL) goimports -local barrage -w $$(git ls-files '*.go')

lint:
	$(TOOL) golangci-lint run ./...

# What is quick to check and needs no tool besides Go.
check:
	@echo "== gofmt, go vet"
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
	  if [ -n "$$unformatted" ]; then echo "not formatted (run make fmt):"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) vet -tags system ./...

# Servers, a browser, and, for the JavaScript client, the exact versions of its package-lock.json.
# Programs, and packages of npm: those that check the client for pages, and the published SDK that the whole-system tests run.
deps: clients/js/node_modules/.package-lock.json test/sdk/node_modules/.package-lock.json
	@scripts/install-test-deps.sh

%/node_modules/.package-lock.json: %/package-lock.json
	@scripts/install-test-deps.sh
	npm ci --prefix $* --ignore-scripts --no-audit --no-fund
	@touch $@

# Everything: checks, the race detector over what needs no server, then all tests with real servers. The whole-system
# tests come last and alone, because some of them look at times.
test: deps check
	@echo "== race detector"
	BARRAGE_TEST_SEEDS=30 $(GO) test -race -count=1 -timeout 6m $$($(GO) list ./... | grep -Ev '$(RACE_SKIP)')
	@echo "== all packages, with servers and $(SEEDS) seeds of the simulation"
	BARRAGE_TEST_SEEDS=$(SEEDS) $(GO) test -tags system -count=1 -timeout 8m $$($(GO) list ./... | grep -v '^barrage/test$$')
	@echo "== the whole system"
	$(GO) test -tags system -count=1 -timeout 8m ./test

# What RFC 6455 asks for, with messages of up to 16 MiB: of both engines, or of the server at URL. docs/conformance.md.
conformance:
	BARRAGE_CONFORMANCE_URL='$(URL)' BARRAGE_CONFORMANCE_LARGE=1 $(GO) test -count=1 -timeout 10m -v ./test/conformance

# Clients that behave badly at random, on both engines; then nothing may be left of them.
stress:
	BARRAGE_STRESS=$(STRESS) $(GO) test -race -count=1 -timeout 60m -v ./test/stress

# Measures a node beside the floor, on loopback, in about five minutes. Nothing else should run meanwhile.
bench: build bin/floor
	$(GO) build -trimpath -o bin/bench-run ./bench/run
	bin/bench-run $(BENCH)

# The least that any server could do: docs/benchmarks.md.
bin/floor: bench/floor/floor.c
	@mkdir -p bin
	gcc -O2 -Wall -Wextra -pthread -o $@ $<

# One room of 100,000 connections on six nodes with PostgreSQL and Redis, and a recorded chat (TRACE) at its true speed, in about
# five minutes. It needs 24 GiB of memory and 20,000 files for each process.
bench-100k: build
	$(GO) build -trimpath -o bin/bench-crowd ./bench/crowd
	bin/bench-crowd --trace "$(TRACE)" $(BENCH)

# Acknowledged durable publishes a second through the journals, beside bare inserts into the same databases, in about a minute.
bench-journal:
	$(GO) run ./bench/journal $(BENCH)

bench-go:
	$(GO) test -run '^$$' -bench '$(BENCH_GO)' -benchmem ./...

# Plays the busiest five minutes of a recorded chat into three nodes behind nginx, with 3,000 subscribers; one node is
# killed half-way.
demo-replay: deps
	@test -f "$(TRACE)" || { echo "no trace at $(TRACE); name one with make demo-replay TRACE=FILE"; exit 1; }
	$(GO) build -o bin/demo ./test/demo
	bin/demo --trace "$(TRACE)" $(DEMO)

clean:
	rm -rf bin
	$(GO) clean -testcache
