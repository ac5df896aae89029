# Everything here is one command of codexctl, go, or a script under test/; `make help` lists it.
# STACK chooses the stack (default dev), ARGS adds arguments: make logs SERVICE=backend ARGS=-f

STACK   ?= dev
SERVICE ?= backend
ARGS    ?=
# The package that mutants changes, and those whose tests have to notice.
PKG     ?= ./infra/policy
TESTS   ?= $(PKG)
# The revision that ci-preview compares with; where the branch left the default one unless set.
BASE    ?=
# The tests that provision, one after the other, on this machine's engine and on a cluster.
DOCKER_TESTS  ?= ^(TestRealEngine|TestNoWayOut|TestDev|TestProd|TestOtherPlatform|TestImages|TestSignIn|TestHealthcare|TestRotation|TestRelease|TestRollback|TestBackupDrill|TestBundle|TestKnowledge|TestWithoutProvider|TestExportedCompose|TestLoad|TestNewDomain|TestLegal)$$
CLUSTER_TESTS ?= ^(TestManifestsApply|TestRealCluster|TestKubernetes.*)$$
END_TO_END     = CODEXCONTINUE_E2E=1 $(GO) test -count=1 -p 1 -v -timeout 60m $(ARGS)
GO      ?= go
# A checkout may belong to another user than the one who builds: git then refuses to read it.
GOFLAGS += $(shell git rev-parse HEAD >/dev/null 2>&1 || echo -buildvcs=false)
export GOFLAGS

CODEXCTL := bin/codexctl
GOFILES   = $$(git ls-files --cached --others --exclude-standard '*.go')
LINT      = cd tools/lint && $(GO) build -o ../../bin/$(1) $(2)
MUTANTS   = --workers 1 --timeout-coefficient 6 --invert-logical --invert-assignments \
	--remove-self-assignments

.DEFAULT_GOAL := help

##@ A stack

.PHONY: up preview down status logs restart outputs doctor
up: build ## Bring the stack up and print its address
	@$(CODEXCTL) up $(STACK) $(ARGS)
preview: build ## Show what up would change
	@$(CODEXCTL) preview $(STACK) $(ARGS)
down: build ## Remove the stack, keep its volumes
	@$(CODEXCTL) down $(STACK) $(ARGS)
status: build ## Show what runs
	@$(CODEXCTL) status $(STACK) $(ARGS)
logs: build ## Print the logs of SERVICE
	@$(CODEXCTL) logs --stack $(STACK) $(ARGS) $(SERVICE)
restart: build ## Restart SERVICE, one container after the other
	@$(CODEXCTL) restart --stack $(STACK) $(ARGS) $(SERVICE)
outputs: build ## Print addresses, images, model
	@$(CODEXCTL) outputs $(STACK) $(ARGS)
doctor: build ## Find out why a stack does not work here
	@$(CODEXCTL) doctor $(STACK) $(ARGS)

##@ Development

.PHONY: build test test-service lint-service e2e e2e-docker e2e-cluster load load-compose bench lint
.PHONY: ci-preview images mutants update-goldens clean
build: ## Build bin/codexctl
	@$(GO) build -o $(CODEXCTL) ./cmd/codexctl
test: ## Unit tests, goldens, races; a test without its peer skips
	$(GO) vet ./...
	$(GO) test -race -timeout 20m $(ARGS) ./...
test-service: build ## Those of SERVICE, in its development container
	@$(CODEXCTL) test --stack $(STACK) $(SERVICE) -- $(ARGS)
lint-service: build ## gofmt, vet, staticcheck on SERVICE, in its container
	@$(CODEXCTL) lint --stack $(STACK) $(ARGS) $(SERVICE)
e2e: e2e-docker e2e-cluster ## Provision real stacks here and chat in a browser
e2e-docker: build ## Those of e2e on this machine's engine
	$(END_TO_END) -run '$(DOCKER_TESTS)' ./infra/docker ./test/e2e
e2e-cluster: build ## Those of e2e on the cluster of test/cluster
	$(END_TO_END) -run '$(CLUSTER_TESTS)' ./infra/export ./cmd/codexctl/internal/cli ./test/e2e
load: ## Ask and read while services are killed, as processes
	CODEXCONTINUE_LOAD=1 $(GO) test -count=1 -v -timeout 20m $(ARGS) ./test/load
load-compose: ## The load of e2e over codexctl and docker compose, side by side
	$(END_TO_END) -run '^TestLoadBesideCompose$$' ./test/e2e
bench: build ## Compare with docker compose; latency and memory
	$(GO) run ./test/bench $(ARGS)
lint: ## gofmt, vet, staticcheck, actionlint, govulncheck
	@unformatted=$$(gofmt -l $(GOFILES)); test -z "$$unformatted" || { echo "not gofmt'ed:"; echo "$$unformatted"; exit 1; }
	$(GO) vet ./...
	@$(call LINT,staticcheck,honnef.co/go/tools/cmd/staticcheck)
	bin/staticcheck ./...
	@$(call LINT,actionlint,github.com/rhysd/actionlint/cmd/actionlint)
	bin/actionlint
	@$(call LINT,govulncheck,golang.org/x/vuln/cmd/govulncheck)
	@$(GO) run ./test/vulncheck bin/govulncheck ./...
mutants: ## Change PKG bit by bit; do TESTS notice?
	@cd tools/mutants && $(GO) build -o ../../bin/gremlins github.com/go-gremlins/gremlins/cmd/gremlins
	@MUTANTS_GO=$$(command -v $(GO)) MUTANTS_PKG=$$($(GO) list $(PKG)) \
		MUTANTS_TESTS=$$($(GO) list $(TESTS) | paste -sd' ') PATH=$(CURDIR)/tools/mutants/path:$$PATH \
		bin/gremlins unleash $(MUTANTS) $(ARGS) $(PKG)
ci-preview: ## What a pull request changes: the steps of its workflow
	@.github/scripts/plan.sh $(BASE)
images: ## Make the upstream images, where no registry can be reached
	test/images/build.sh all
update-goldens: ## Rewrite the golden files
	$(GO) test -count=1 $$(git grep -l 'flag.Bool("update"' -- '*_test.go' | sed 's,^,./,; s,/[^/]*$$,,' | sort -u) -update
clean: ## Remove what was built; stacks and their state stay
	rm -rf bin dist out

##@ Help

.PHONY: help
help: ## Print this
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@printf '\nMore commands and options: bin/codexctl help\n'
