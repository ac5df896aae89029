package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/token"
)

const (
	// apiAsks is how often each is asked in a round: of fewer there is no 99th percentile.
	apiAsks = 100

	// apiWarm is how often each is asked before: connections, pools and the model warm up.
	apiWarm = 20
)

// api measures the first token through the API for programs over asking Ollama directly: through
// the edge, which ends TLS, with sign-in, limits and audit on. Beside it stand ml alone and what
// people put before Ollama. All are asked in turns, so that other work of the machine affects each.
func (b *bench) api(ctx context.Context) error {
	c, err := b.newSecured(ctx, "api")
	if c != nil {
		defer c.stop()
	}
	if err != nil {
		return err
	}

	hops, err := c.apiHops(ctx)
	if err != nil {
		return err
	}

	t := b.report.table("API: the first token for a program, over asking Ollama directly",
		fmt.Sprintf("API: through the edge over HTTPS, gate and ml, with a key, and with sign-in, "+
			"limits and audit on. %d answers each, over connections that are kept. added: the "+
			"median of the differences of two answers of the same round. added p99: "+
			"the difference of the 99th percentiles. ratio: of the medians.",
			b.rounds*apiAsks),
		"median", "added", "ratio", "p99", "added p99")

	firsts := make([][]float64, len(hops))
	for n := range b.rounds*apiAsks + apiWarm {
		for i := range hops {
			i = (i + n) % len(hops)
			s, err := hops[i].ask(ctx)
			if err != nil {
				return err
			}
			if n >= apiWarm {
				firsts[i] = append(firsts[i], s.first.Seconds()*1000)
			}
		}
	}

	for i, h := range hops {
		r := t.row(h.name)
		r.Cells["median"] = &cell{Value: median(firsts[i]), Unit: precise, Samples: firsts[i]}
		r.Cells["p99"] = &cell{Value: percentile99(firsts[i]), Unit: precise}
		if i == 0 {
			continue
		}

		added := make([]float64, len(firsts[i]))
		for n := range added {
			added[n] = firsts[i][n] - firsts[0][n]
		}

		r.Cells["added"] = &cell{Value: median(added), Unit: precise}
		r.Cells["ratio"] = &cell{Value: median(firsts[i]) / median(firsts[0]), Unit: ratio}
		r.Cells["added p99"] = &cell{
			Value: percentile99(firsts[i]) - percentile99(firsts[0]), Unit: precise,
		}
	}

	return c.apiWork(ctx, hops[len(hops)-1])
}

// apiWork measures what an answer through the API costs: processor time, and how often Redis is
// asked. Unlike time, these hardly depend on what else the machine does.
func (c *secured) apiWork(ctx context.Context, program hop) error {
	asks := c.rounds * apiAsks
	t := c.report.table("API: the work for an answer",
		fmt.Sprintf("processor: the time of all processors for an answer of 10 tokens, of %d. "+
			"questions: how often Redis reads from its connections for it, which is how often it "+
			"is asked.", asks),
		"processor", "questions")

	type work struct{ seconds, reads float64 }
	now := func() (map[string]work, error) {
		out := map[string]work{}
		for _, p := range c.running {
			if !slices.Contains([]string{"redis", "ml", "gate", "edge"}, p.name) {
				continue
			}

			s, err := p.cpu()
			if err != nil {
				return nil, err
			}

			out[p.name] = work{seconds: s}
		}

		reads, err := c.redisReads(ctx)
		out["redis"] = work{out["redis"].seconds, reads}
		return out, err
	}

	before, err := now()
	if err != nil {
		return err
	}

	for range asks {
		if _, err := program.ask(ctx); err != nil {
			return err
		}
	}

	after, err := now()
	if err != nil {
		return err
	}

	for _, name := range []string{"edge", "gate", "ml", "redis"} {
		r := t.row(name)
		r.Cells["processor"] = &cell{
			Value: (after[name].seconds - before[name].seconds) / float64(asks) * 1e6,
			Unit:  microseconds,
		}
	}

	t.row("redis").Cells["questions"] = &cell{
		Value: (after["redis"].reads - before["redis"].reads) / float64(asks), Unit: count,
	}
	return nil
}

// apiHops returns whom an answer can be asked of, Ollama first, the API last.
func (c *secured) apiHops(ctx context.Context) ([]hop, error) {
	key, err := c.makeKey(ctx, c.somebody)
	if err != nil {
		return nil, err
	}

	signer, err := token.New(ctx, contract.Redis{URL: c.redisAs("gate")})
	if err != nil {
		return nil, err
	}

	ask := map[string]any{
		"model": "bench:latest", "stream": true, "max_tokens": 10,
		"options":  map[string]any{"num_predict": 10}, // Ollama's; the API ignores it
		"messages": []map[string]string{{"role": "user", "content": "go"}},
	}

	askML := map[string]any{
		"model": "bench", "whole": true, "options": map[string]any{"num_predict": 10},
		"messages": ask["messages"],
	}

	hops := []hop{
		{name: "ollama", url: c.url("ollama", "/api/chat"), body: ask, line: ollamaLine},
		{
			name: "caddy", url: c.url("caddy", "/api/chat"), body: ask, line: ollamaLine,
		},
	}

	olla, err := c.olla(ctx)
	if err != nil {
		return nil, err
	}

	if olla {
		hops = append(hops, hop{
			name: "olla", url: c.url("olla", "/olla/ollama/api/chat"), body: ask, line: ollamaLine,
		})
	}

	return append(hops,
		hop{
			name: "ml", url: c.url("ml", "/chat"), body: askML, line: mlLine,
			authorization: func() string { return signer.Authorization("bench", "ml") },
		},
		hop{
			name: "API",
			url: fmt.Sprintf("https://127.0.0.1:%d/v1/chat/completions",
				c.ports["https"]),
			body:          ask,
			line:          openAILine,
			client:        c.browser,
			authorization: func() string { return "Bearer " + key },
		}), nil
}

// percentile99 returns the value that 99 of 100 values do not exceed.
func percentile99(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	return v[(len(v)*99+99)/100-1]
}

// makeKey makes a key on the gate's page, as a person's browser does.
func (c *chain) makeKey(ctx context.Context, person *http.Client) (string, error) {
	form := url.Values{"name": {"bench"}, "scope": {"chat"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url("gate", "/account/keys"),
		strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}

	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := person.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()

	page, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}

	key := regexp.MustCompile(`cck_[A-Z2-7]+`).FindString(string(page))
	if key == "" {
		return "", fmt.Errorf("the gate's page has no new key: %s", resp.Status)
	}

	return key, nil
}

// openAILine is that of a stream in OpenAI's form.
func openAILine(b []byte) (text, done bool, err error) {
	data, found := strings.CutPrefix(string(b), "data: ")
	if !found || data == "[DONE]" {
		return false, found, nil
	}

	var l struct {
		Choices []struct{ Delta struct{ Content string } }
		Error   *struct{ Message string }
	}

	if err = json.Unmarshal([]byte(data), &l); err == nil && l.Error != nil {
		err = errors.New(l.Error.Message)
	}

	return len(l.Choices) > 0 && l.Choices[0].Delta.Content != "", false, err
}
