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
)

// apiAsks is how often the API is asked in a round: of fewer there is no 99th percentile.
const apiAsks = 100

// api measures the first token through the API for programs over asking Ollama directly. The answers
// are asked in turns, so that other work of the machine affects both.
func (b *bench) api(ctx context.Context) error {
	c, err := b.newChain(ctx, "api")
	if err != nil {
		return err
	}
	defer c.stop()

	for _, name := range []string{"ml", "gate"} {
		if _, err := c.service(ctx, name); err != nil {
			return err
		}
		if err := awaitReady(ctx, c.url(name, "/ready")); err != nil {
			return err
		}
	}

	key, err := c.makeKey(ctx)
	if err != nil {
		return err
	}

	ask := map[string]any{
		"model": "bench", "stream": true, "max_tokens": 10,
		"options":  map[string]any{"num_predict": 10}, // Ollama's; the API ignores it
		"messages": []map[string]string{{"role": "user", "content": "go"}},
	}
	authorization := func() string { return "Bearer " + key }
	direct := hop{"ollama", c.url("ollama", "/api/chat"), ask, nil, nil, ollamaLine}
	program := hop{"API", c.url("gate", "/v1/chat/completions"), ask, nil, authorization, openAILine}

	t := b.report.table("API: the first token for a program, over asking Ollama directly",
		fmt.Sprintf("Through gate and ml, with a key. %d answers each; p99 is of each by itself.",
			b.rounds*apiAsks),
		"median", "p99", "added", "added p99")
	firsts := map[string][]float64{}
	for n := range b.rounds*apiAsks + 10 {
		hops := []hop{direct, program}
		if n%2 == 1 {
			slices.Reverse(hops)
		}
		for _, h := range hops {
			s, err := h.ask(ctx)
			if err != nil {
				return err
			}
			if n >= 10 { // connections and the model warm up
				firsts[h.name] = append(firsts[h.name], s.first.Seconds()*1000)
			}
		}
	}

	for _, name := range []string{direct.name, program.name} {
		r := t.row(name)
		r.Cells["median"] = &cell{Value: median(firsts[name]), Unit: precise, Samples: firsts[name]}
		r.Cells["p99"] = &cell{Value: percentile99(firsts[name]), Unit: precise}
	}
	ours, theirs := t.row(program.name), t.row(direct.name)
	for added, of := range map[string]string{"added": "median", "added p99": "p99"} {
		ours.Cells[added] = &cell{Value: ours.Cells[of].Value - theirs.Cells[of].Value, Unit: precise}
	}

	return nil
}

// percentile99 returns the value that 99 of 100 values do not exceed.
func percentile99(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	return v[(len(v)*99+99)/100-1]
}

// makeKey makes a key on the gate's page, as a browser does.
func (c *chain) makeKey(ctx context.Context) (string, error) {
	form := url.Values{"name": {"bench"}, "scope": {"chat"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url("gate", "/account/keys"),
		strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}

	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
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
