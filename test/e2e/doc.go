// Package e2e runs whole stacks for real: the codexctl binary, the Pulumi CLI and its docker
// provider, a Docker engine, Ollama with a tiny real model, and a browser. `make e2e` runs it;
// plain `go test ./...` skips it.
package e2e
