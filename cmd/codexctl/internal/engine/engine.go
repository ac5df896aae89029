// Package engine observes and restarts the containers of one stack on a Docker engine. It selects
// by labels only, never by name.
package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/client"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// MinimumVersion is the oldest engine that the project is tested with.
const MinimumVersion = "20.10"

// pingTimeout bounds the first contact: an engine on this machine answers in milliseconds.
const pingTimeout = 5 * time.Second

// Engine is a connection to a Docker engine, for one stack.
type Engine struct {
	// Host is the engine's address.
	Host  Host
	Stack string
	api   *client.Client
}

// Unreachable is returned when no engine answers.
type Unreachable struct {
	Host  Host
	Cause error
}

func (e *Unreachable) Unwrap() error { return e.Cause }

func (e *Unreachable) Error() string {
	why, todo := "does not answer", "start Docker and try again"
	switch {
	case errors.Is(e.Cause, fs.ErrNotExist), errors.Is(e.Cause, syscall.ECONNREFUSED):
		why = "is not running"
		if e.Host.Source == "DOCKER_HOST" {
			todo = "start it, or correct DOCKER_HOST"
		}
	case errors.Is(e.Cause, fs.ErrPermission):
		why = "refuses you its socket"
		todo = "add yourself to the group that owns it (`sudo usermod -aG docker $USER`, then " +
			"log in again), or use rootless Docker"
	case errors.Is(e.Cause, context.DeadlineExceeded):
		why = "does not answer in time"
	case strings.HasPrefix(e.Host.URL, "ssh://"):
		why = "cannot be used over ssh"
		todo = "forward its socket (ssh -nNT -L /tmp/docker.sock:/var/run/docker.sock HOST) and " +
			"set DOCKER_HOST=unix:///tmp/docker.sock"
	default:
		why = "does not answer (" + e.Cause.Error() + ")"
	}

	return fmt.Sprintf("engine: the Docker engine at %s (%s) %s: %s",
		e.Host.URL, e.Host.Source, why, todo)
}

// Connect connects to the engine and makes sure that it answers. It returns an
// *Unreachable if it does not.
func Connect(ctx context.Context, host Host, stack string) (*Engine, error) {
	if strings.HasPrefix(host.URL, "ssh://") {
		return nil, &Unreachable{Host: host, Cause: errors.New("ssh")}
	}

	api, err := client.New(client.FromEnv, client.WithHost(host.URL))
	if err != nil {
		return nil, &Unreachable{Host: host, Cause: err}
	}

	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	if _, err := api.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		api.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, &Unreachable{Host: host, Cause: err}
	}

	return &Engine{Host: host, Stack: stack, api: api}, nil
}

// ofStack returns the filters for what is of the stack and has the other labels.
func (e *Engine) ofStack(others ...string) client.Filters {
	return make(client.Filters).Add("label", append(others,
		stacks.LabelProject+"="+stacks.Project, stacks.LabelStack+"="+e.Stack)...)
}

// Close closes the connections.
func (e *Engine) Close() error { return e.api.Close() }

// Version returns the versions of the engine and its API.
func (e *Engine) Version(ctx context.Context) (client.ServerVersionResult, error) {
	v, err := e.api.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		return v, fmt.Errorf("engine: version: %w", err)
	}
	return v, nil
}

// CheckPlatform returns an error if the stack's images are built for another platform than the
// engine's.
func (e *Engine) CheckPlatform(ctx context.Context, s stacks.Stack) error {
	v, err := e.Version(ctx)
	if err != nil {
		return err
	}

	own := v.Os + "/" + v.Arch
	if own == s.Platform() {
		return nil
	}
	return fmt.Errorf("%s:platform: images are built for %s, and the engine runs on %s: "+
		"`pulumi config set -s %s %s:platform %s`",
		stacks.Project, s.Platform(), own, e.Stack, stacks.Project, own)
}

// Info returns what the engine reports of itself and its machine.
func (e *Engine) Info(ctx context.Context) (system.Info, error) {
	r, err := e.api.Info(ctx, client.InfoOptions{})
	if err != nil {
		return r.Info, fmt.Errorf("engine: info: %w", err)
	}
	return r.Info, nil
}

// bridgeName is the option of a network that names its bridge, for rules of the machine's firewall.
const bridgeName = "com.docker.network.bridge.name"

// InboundBridge returns the name of the bridge of the stack's network that people come in by and
// nothing is to leave, which is the one that is named. It is empty if there is none.
func (e *Engine) InboundBridge(ctx context.Context) (string, error) {
	r, err := e.api.NetworkList(ctx, client.NetworkListOptions{Filters: e.ofStack()})
	if err != nil {
		return "", fmt.Errorf("engine: networks: %w", err)
	}

	for _, n := range r.Items {
		if name := n.Options[bridgeName]; name != "" {
			return name, nil
		}
	}
	return "", nil
}

// BridgeOptions returns the options of the engine's default network.
func (e *Engine) BridgeOptions(ctx context.Context) (map[string]string, error) {
	r, err := e.api.NetworkInspect(ctx, "bridge", client.NetworkInspectOptions{})
	if err != nil {
		return nil, fmt.Errorf("engine: network bridge: %w", err)
	}
	return r.Network.Options, nil
}
