package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/token"
)

// hop is a place at which the same answer can be requested.
type hop struct {
	name, url string
	body      any
	header    http.Header

	// authorization returns the header of a request to a service behind the gate; nil sends none.
	authorization func() string

	// line reports whether a line of the stream brings text, and whether it ends the answer.
	line func(line []byte) (text bool, done bool, err error)

	// client sends the requests; nil is http.DefaultClient.
	client *http.Client
}

// sample is the timing of one answer.
type sample struct{ first, perToken time.Duration }

// asksPerRound is how often each hop is measured in a round: an answer takes a
// fraction of a second.
const asksPerRound = 5

// hops measures the same answer at each hop in turns, so that other work of the
// machine affects all of them.
func (b *bench) hops(ctx context.Context) error {
	c, err := b.newChain(ctx, "hops")
	if err != nil {
		return err
	}
	defer c.stop()

	if _, err := c.all(ctx); err != nil {
		return err
	}

	hops, err := c.hopsOf(ctx)
	if err != nil {
		return err
	}

	found, err := c.edge(ctx)
	if err != nil {
		return err
	}

	if !found {
		if err := b.skip("hops, edge", absentError{"caddy", "run test/peers/build.sh caddy"}); err != nil {
			return err
		}
		hops = hops[:len(hops)-1]
	}

	t := b.report.table(fmt.Sprintf("Hops: the same answer of %d tokens, asked at each hop",
		tokens),
		fmt.Sprintf("first: from the request to the first text. Each hop includes those above "+
			"it; added and ratio are against ollama. Medians of %d answers each. The model has "+
			"0.2 million weights: a token takes microseconds, so the ratios are the worst case.",
			b.rounds*asksPerRound),
		"first", "added", "ratio", "per token", "added/token", "ratio/token")

	for round := range b.rounds*asksPerRound + 1 {
		for i := range hops {
			h := hops[(i+round)%len(hops)]
			s, err := h.ask(ctx)
			if err != nil {
				return err
			}
			if round == 0 {
				continue // connections, pools and the model warm up
			}

			t.row(h.name).addTime("first", milliseconds, s.first)
			t.row(h.name).addTime("per token", microseconds, s.perToken)
		}
	}

	base := t.row(hops[0].name)
	for _, h := range hops[1:] {
		r := t.row(h.name)
		for _, x := range []struct{ of, added, ratio string }{
			{"first", "added", "ratio"}, {"per token", "added/token", "ratio/token"},
		} {
			ours, theirs := r.Cells[x.of], base.Cells[x.of]
			r.Cells[x.added] = &cell{Value: ours.Value - theirs.Value, Unit: ours.Unit}
			r.Cells[x.ratio] = &cell{Value: ours.Value / theirs.Value, Unit: ratio}
		}
	}

	t.sort(hops)
	c.stop()
	return b.openStreams(ctx)
}

// sort puts the rows in the order of the hops, as the rounds began in turns.
func (t *table) sort(hops []hop) {
	rows := make([]*row, len(hops))
	for i, h := range hops {
		rows[i] = t.row(h.name)
	}
	t.Rows = rows
}

// hopsOf returns the hops of an answer, Ollama first, the edge last.
func (c *chain) hopsOf(ctx context.Context) ([]hop, error) {
	signer, err := token.New(ctx, contract.Redis{URL: c.redisURL()})
	if err != nil {
		return nil, err
	}

	sign := func(service string) func() string {
		return func() string { return signer.Authorization("bench", service) }
	}

	chat := map[string]any{
		"model":    "bench",
		"messages": []map[string]string{{"role": "user", "content": "go"}},
	}

	message := map[string]string{"message": "go"}
	events := http.Header{"Accept": {"text/event-stream"}}
	return []hop{
		{name: "ollama", url: c.url("ollama", "/api/chat"), body: chat, line: ollamaLine},
		{
			name: "ml", url: c.url("ml", "/chat"), body: chat,
			authorization: sign("ml"), line: mlLine,
		},
		{
			name: "backend", url: c.url("backend", "/api/chat"), body: message,
			header: events, authorization: sign("backend"), line: eventLine,
		},
		{
			name: "frontend", url: c.url("frontend", "/api/chat"), body: message,
			header: events, authorization: sign("backend"), line: eventLine,
		},
		{
			name: "gate", url: c.url("gate", "/api/chat"), body: message,
			header: events, line: eventLine,
		},
		{
			name: "edge", url: c.url("edge", "/api/chat"), body: message,
			header: events, line: eventLine,
		},
	}, nil
}

// open sends the question and returns the response when its header has arrived.
func (h hop) open(ctx context.Context) (*http.Response, error) {
	req, err := h.request(ctx)
	if err != nil {
		return nil, err
	}
	return h.send(req)
}

// request returns the question.
func (h hop) request(ctx context.Context) (*http.Request, error) {
	body, err := json.Marshal(h.body)
	if err != nil {
		return nil, err
	}

	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}

	for k, v := range h.header {
		req.Header[k] = v
	}

	req.Header.Set("Content-Type", "application/json")
	if h.authorization != nil {
		req.Header.Set("Authorization", h.authorization())
	}

	return req, nil
}

// send sends a question and returns the response when its header has arrived.
func (h hop) send(req *http.Request) (*http.Response, error) {
	client := h.client
	if client == nil {
		client = http.DefaultClient
	}

	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.name, err)
	}

	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body) // only for the message
		return nil, fmt.Errorf("%s: %s: %s", h.name, resp.Status, b)
	}

	return resp, nil
}

// ask measures one answer, from when the question is sent.
func (h hop) ask(ctx context.Context) (sample, error) {
	req, err := h.request(ctx)
	if err != nil {
		return sample{}, err
	}

	begin := time.Now()
	resp, err := h.send(req)
	if err != nil {
		return sample{}, err
	}
	defer resp.Body.Close()

	var first time.Time
	scanner := bufio.NewScanner(resp.Body)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		text, done, err := h.line(scanner.Bytes())
		if err != nil {
			return sample{}, fmt.Errorf("%s: %w", h.name, err)
		}
		if text && first.IsZero() {
			first = time.Now()
		}

		if done {
			if first.IsZero() {
				return sample{}, fmt.Errorf("%s: the answer holds no text", h.name)
			}

			out := sample{first.Sub(begin), time.Since(first) / (tokens - 1)}
			_, err := io.Copy(io.Discard, resp.Body) // to its end, or the connection is not kept
			return out, err
		}
	}

	return sample{}, fmt.Errorf("%s: the stream was cut: %w", h.name,
		errors.Join(scanner.Err(), io.ErrUnexpectedEOF))
}

func ollamaLine(b []byte) (text, done bool, err error) {
	var l struct {
		Message struct{ Content string }
		Done    bool
		Error   string
	}

	if err = json.Unmarshal(b, &l); err == nil && l.Error != "" {
		err = errors.New(l.Error)
	}

	return l.Message.Content != "", l.Done, err
}

func mlLine(b []byte) (text, done bool, err error) {
	var l struct {
		Text  string
		Done  *struct{}
		Error *struct{ Detail string }
	}

	if err = json.Unmarshal(b, &l); err == nil && l.Error != nil {
		err = errors.New(l.Error.Detail)
	}

	return l.Text != "", l.Done != nil, err
}

func eventLine(b []byte) (text, done bool, err error) {
	switch name, found := strings.CutPrefix(string(b), "event: "); {
	case !found:
	case name == "error" || name == "stopped":
		err = errors.New("the answer ended with event " + name)
	default:
		text, done = name == "delta", name == "done"
	}

	return text, done, err
}
