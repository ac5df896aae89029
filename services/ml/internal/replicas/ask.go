package replicas

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollama"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/vocabulary"
	"github.com/ollama/ollama/api"
)

// clients returns the clients of the replicas that can be reached, or of all if none can.
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

// Version returns the version of the first replica that answers.
func (p *Pool) Version(ctx context.Context) (string, error) {
	return first(p.clients(), func(c *ollama.Client) (string, error) { return c.Version(ctx) })
}

// Show describes a model, as the first replica that has it says.
func (p *Pool) Show(ctx context.Context, name string) (*api.ShowResponse, error) {
	return first(p.clients(), func(c *ollama.Client) (*api.ShowResponse, error) {
		return c.Show(ctx, name)
	})
}

// Vocabulary returns the tokens of a model, as the first replica that has it says.
func (p *Pool) Vocabulary(ctx context.Context, name string) (vocabulary.Metadata, error) {
	return first(p.clients(), func(c *ollama.Client) (vocabulary.Metadata, error) {
		return c.Vocabulary(ctx, name)
	})
}

// first returns the answer of the first client that answers.
func first[T any](clients []*ollama.Client, question func(*ollama.Client) (T, error)) (T, error) {
	var errs []error
	for _, c := range clients {
		v, err := question(c)
		if err == nil {
			return v, nil
		}
		errs = append(errs, err)
	}

	var none T
	return none, errors.Join(errs...)
}

// Lists returns the models of each replica that answers. The digests of the same model may differ.
func (p *Pool) Lists(ctx context.Context) ([][]api.ListModelResponse, error) {
	return ask(ctx, p.clients(), (*ollama.Client).List)
}

// List returns every model that some replica has.
func (p *Pool) List(ctx context.Context) ([]api.ListModelResponse, error) {
	lists, err := p.Lists(ctx)
	return union(lists, func(m api.ListModelResponse) string { return m.Name }), err
}

// Running returns every model in the memory of some replica.
func (p *Pool) Running(ctx context.Context) ([]api.ProcessModelResponse, error) {
	lists, err := ask(ctx, p.clients(), (*ollama.Client).Running)
	return union(lists, func(m api.ProcessModelResponse) string { return m.Name }), err
}

// ask asks all at once, and returns the answers of those that answer. It fails if none does.
func ask[T any](
	ctx context.Context, clients []*ollama.Client,
	question func(*ollama.Client, context.Context) ([]T, error),
) ([][]T, error) {
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

// union returns what is in some list, once each, in their order.
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
