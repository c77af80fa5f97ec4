# Everything works from a fresh clone and over all modules of go.work. The work is done in scripts/.
.DEFAULT_GOAL := help
SHELL := bash

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test: ## all tests; brings redis-server, chromium and nginx where it may; ARGS go to go test
	@bash scripts/test.sh $(ARGS)

race: ## all tests under the race detector
	@bash scripts/test.sh -race $(ARGS)

vet: ## go vet
	@bash scripts/each.sh go vet ./...

lint: ## golangci-lint in the pinned version, built on first use
	@bash scripts/lint.sh

fmt: ## format all Go files
	@gofmt -l -w .

fmt-check: ## fail where gofmt would change a file
	@files=$$(gofmt -l .) && [ -z "$$files" ] || { echo "gofmt would change:"; echo "$$files"; exit 1; }

files-check: ## fail where a file of the repository is so large that it must be a program or a log
	@large=$$(git ls-files -z | xargs -0 -r -I{} find {} -size +512k) && [ -z "$$large" ] || { echo "too large for the repository:"; echo "$$large"; exit 1; }

tidy-check: ## fail where go mod tidy would change a module
	@bash scripts/each.sh env GOWORK=off go mod tidy -diff

fuzz: ## every fuzz target for FUZZTIME (default 10s)
	@bash scripts/fuzz.sh

innocent: ## the healthy backplane is never blamed: 200 whole runs in each condition; hours
	@CONFORMANCE_INNOCENT=200 CONFORMANCE_INNOCENT_FULL=1 go test -race -count=1 -timeout 6h -v -run '^TestInnocent$$' ./conformance

innocent-short: ## the same with 40 short runs in all, as in CI
	@CONFORMANCE_INNOCENT=40 go test -race -count=1 -timeout 30m -v -run '^TestInnocent$$' ./conformance

bench: ## all benchmarks; ARGS go to go test, for example ARGS='-count 6'
	@bash scripts/each.sh go test -run '^$$' -bench . -benchmem $(ARGS) ./...

docs: ## write docs/contract.md, docs/matrix.md and docs/hub-contract.md of the suites' properties and what they catch
	@go test -count=1 -run '^(TestContractDocument|TestMatrix)$$' ./conformance -update
	@go test -count=1 -run '^TestHubContractDocument$$' ./conformance/hubtest -update

report: ## prove inmem, miniredis, NATS and a real Redis, and write docs/reports
	@bash scripts/report.sh

figures: ## what the documentation claims of speed, memory and 200 idle nodes, over a real Redis and a nats-server
	@bash scripts/setup.sh && cd integration && go test -count=1 -v -run '^TestFigure' .

wardboard: ## the example to look at, on http://127.0.0.1:8080; ARGS='-backplane none' shows the problem
	@go run ./examples/wardboard $(ARGS)

.PHONY: help test race vet lint fmt fmt-check files-check tidy-check fuzz innocent innocent-short bench docs report figures wardboard
