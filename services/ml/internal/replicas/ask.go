package replicas

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollama"
	"github.com/ollama/ollama/api"
)

// clients are those of the replicas that can be reached, or of all where none can.
func (p *Pool) clients() []*ollama.Client {
	p.mu.Lock()
	defer p.mu.Unlock()
	var here, all []*ollama.Client
	for _, r := range p.list {
		all = append(all, r.Client)
		if r.away.IsZero() {
			here = append(here, r.Client)
		}
	}
	if len(here) == 0 {
		return all
	}
	return here
}

// Version is that of the first replica that answers.
func (p *Pool) Version(ctx context.Context) (string, error) {
	var errs []error
	for _, c := range p.clients() {
		v, err := c.Version(ctx)
		if err == nil {
			return v, nil
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}

// Lists is what each replica that answers has: digests of the same model may differ between two.
func (p *Pool) Lists(ctx context.Context) ([][]api.ListModelResponse, error) {
	return ask(ctx, p.clients(), (*ollama.Client).List)
}

// List is every model that some replica has.
func (p *Pool) List(ctx context.Context) ([]api.ListModelResponse, error) {
	lists, err := p.Lists(ctx)
	return union(lists, func(m api.ListModelResponse) string { return m.Name }), err
}

// Running is every model in the memory of some replica.
func (p *Pool) Running(ctx context.Context) ([]api.ProcessModelResponse, error) {
	lists, err := ask(ctx, p.clients(), (*ollama.Client).Running)
	return union(lists, func(m api.ProcessModelResponse) string { return m.Name }), err
}

// ask asks all at once, and returns the answers of those that answer; it fails when none does.
func ask[T any](ctx context.Context, clients []*ollama.Client, question func(*ollama.Client, context.Context) ([]T, error)) ([][]T, error) {
	lists, errs := make([][]T, len(clients)), make([]error, len(clients))
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() { lists[i], errs[i] = question(c, ctx) })
	}
	wg.Wait()
	if !slices.Contains(errs, nil) {
		return nil, errors.Join(errs...)
	}
	var out [][]T
	for i := range lists {
		if errs[i] == nil {
			out = append(out, lists[i])
		}
	}
	return out, nil
}

// union is what stands in some list, once each, in their order.
func union[T any](lists [][]T, name func(T) string) []T {
	seen := map[string]bool{}
	var out []T
	for _, x := range slices.Concat(lists...) {
		if !seen[name(x)] {
			seen[name(x)] = true
			out = append(out, x)
		}
	}
	return out
}
