# Targets are described by the comment after ##; `make` prints them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO       ?= go
BIN      := bin
MODULE   := github.com/edfisync/edfisync
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT   ?= $(shell git rev-parse HEAD 2>/dev/null)
DATE     ?= $(shell git log -1 --format=%cI 2>/dev/null)
LDFLAGS  := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT) -X main.date=$(DATE)
PLATFORMS := linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64
FUZZTIME ?= 5s
SEEDS    ?= 10000
HUNT     ?= 6000
KILLS    ?= 2000
LOSSES   ?= 5000
DEATHS   ?= 200
TAMPERS  ?= 10000
FLEET    ?= 50
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.1.4
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# Our binaries are pure Go: one static file, cross-compiled anywhere. Only the race detector of `make test` needs a C compiler.
export CGO_ENABLED := 0

.PHONY: help build demo test lint generate bench bench-console scale fuzz kills fleet powerloss sweep tampers upgrade simulate mutants release sbom notice vulnerabilities clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/edfisync for this machine
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/edfisync

demo: build ## a made-up district synced three times to a sandbox Ed-Fi API, every count checked
	$(BIN)/edfisync demo

test: ## every test, most of them with the race detector, on real PostgreSQL, MariaDB and Chromium (installs them on Debian when missing)
	.ci/test-packages
	.ci/test

lint: ## golangci-lint when installed, else staticcheck; go vet and gofmt always
	@unformatted=$$(git ls-files -z '*.go' | xargs -0 -r gofmt -l); \
	if [ -n "$$unformatted" ]; then echo "not gofmt-ed:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	@if command -v golangci-lint >/dev/null; then golangci-lint run ./...; \
	else echo "golangci-lint is not installed; running staticcheck"; $(GO) run $(STATICCHECK) ./...; fi

generate: ## write generated files again (catalogs need the Ed-Fi documents, see CONTRIBUTING.md)
	$(GO) generate ./...

bench: ## measure the pipeline against bare loops, write bench.json
	.ci/test-packages
	.ci/with-databases $(GO) run ./cmd/bench

bench-console: ## draw each page of the console at 200 connections, 10,000 runs, 1,000,000 rows not in sync on PostgreSQL; the aim is below 100 ms each
	.ci/test-packages
	EDFISYNC_TEST_REQUIRE_DB=1 $(GO) test -run '^$$' -bench '^BenchmarkPages$$' -benchtime 20x -timeout 1h ./console

scale: ## 100,000 students and a million attendance rows in PostgreSQL: load, no change, 1 % change, within 512 MiB
	.ci/test-packages
	.ci/with-databases $(GO) run ./cmd/bench -scale

fuzz: ## run every fuzz target for FUZZTIME (5s)
	@grep -rlE '^func Fuzz' --include='*_test.go' . | sort | while read -r file; do \
		for target in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9_]*).*/\1/p' "$$file"); do \
			echo "fuzz $$(dirname "$$file") $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")" </dev/null; \
		done; \
	done

kills: ## kill -9 the program at every named point, and KILLS (2000) times at random: each time the next run must converge
	EDFISYNC_TEST_KILLS=all EDFISYNC_TEST_RANDOM_KILLS=$(KILLS) $(GO) test -count 1 -timeout 6h -v -run '^TestKill9(AtNamedPoints|AtRandomTimes|InWhatPeopleDo)$$' ./cmd/edfisync

fleet: ## two serve and three worker processes, FLEET (50) districts: killed at random, stopped until their leases end; the ledger's server goes and comes back
	.ci/test-packages
	EDFISYNC_FLEET=$(FLEET) .ci/with-databases $(GO) test -count 1 -timeout 1h -v -run '^TestAFleet|^TestAWorkerThat|^TestARunOfAnother|^TestAServiceWhose' ./cmd/edfisync

powerloss: ## cut the power of the ledger's machine LOSSES (5000) times, kill its PostgreSQL server DEATHS (200) times: each time the next run must converge
	EDFISYNC_TEST_POWER_LOSSES=$(LOSSES) EDFISYNC_TEST_POSTGRES_KILLS=$(DEATHS) EDFISYNC_TEST_REQUIRE_DB=1 $(GO) test -count 1 -timeout 6h -parallel 4 -v -run '^TestPowerLoss' ./sync/powerloss

sweep: ## every fault at every operation (calls, ledger, source) of a reference scenario, once and going on; then everything must be right
	EDFISYNC_TEST_SWEEP=all $(GO) test -count 1 -timeout 6h -v -run '^TestSweepOfFaultsAtEachOperation$$' ./sync

tampers: ## change, drop, move, insert or cut off rows of an audit trail TAMPERS (10000) times: each time it is found, and where
	EDFISYNC_TEST_TAMPERS=$(TAMPERS) $(GO) test -count 1 -timeout 1h -v -run '^TestTamperedAuditIsFound$$' ./syncdb

upgrade: ## upgrade and take back the ledger of the version before; kill -9 while a ledger with calls open is upgraded
	EDFISYNC_TEST_UPGRADES=20 $(GO) test -count 1 -timeout 1h -v -run '^TestKill9InAnUpgrade$$' ./cmd/edfisync
	$(GO) test -count 1 -timeout 1h -v -run 'Upgrade|OldLedger' ./syncdb

simulate: ## play SEEDS (10000) simulated districts with faults, crashes and edits; ends with seeds=… violations=…
	$(GO) test -c -trimpath -o $(BIN)/simulate.test ./sync/simulate
	cd sync/simulate && ../../$(BIN)/simulate.test -test.timeout 0 -test.run '^TestSimulate$$' -seeds $(SEEDS) | grep -vx PASS

mutants: ## put known defects into the source, one by one; the simulation has to find each within HUNT (6000) seeds
	$(GO) test -c -trimpath -o $(BIN)/simulate.test ./sync/simulate
	cd sync/simulate && ../../$(BIN)/simulate.test -test.timeout 0 -test.run '^TestAudit$$' -mutants $(HUNT) | grep -vx PASS

release: ## cross-compile for linux, darwin and windows on amd64 and arm64 into dist/, with checksums
	@rm -rf dist; mkdir -p dist
	@for platform in $(PLATFORMS); do \
		os=$${platform%/*}; arch=$${platform#*/}; out=dist/edfisync_$(VERSION)_$${os}_$${arch}; \
		if [ $$os = windows ]; then out=$$out.exe; fi; \
		echo "$$out"; \
		GOOS=$$os GOARCH=$$arch $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o "$$out" ./cmd/edfisync; \
	done
	@$(GO) run ./cmd/sbom $$(ls dist/edfisync_*_linux_amd64) > dist/edfisync_$(VERSION).cdx.json
	@cd dist && sha256sum edfisync_* > SHA256SUMS

sbom: build ## what bin/edfisync is made of, as CycloneDX, into bin/edfisync.cdx.json
	$(GO) run ./cmd/sbom $(BIN)/edfisync > $(BIN)/edfisync.cdx.json

notice: ## write the licences of modules in NOTICE again
	@sed -i '/^The program contains these modules/,$$d' NOTICE; $(GO) run ./cmd/sbom -notice >> NOTICE

vulnerabilities: ## known vulnerabilities in what is built into the program; asks vuln.go.dev
	$(GO) run $(GOVULNCHECK) ./cmd/edfisync

clean: ## remove what the other targets built
	rm -rf $(BIN) dist bench.json
