# Everything here works from a fresh clone; `make` alone lists the targets.
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test: ## run all tests of all modules
	@bash scripts/test.sh

race: ## the same under the race detector
	@bash scripts/test.sh -race

.PHONY: help test race
