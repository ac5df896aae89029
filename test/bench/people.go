package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/slowmodel"
)

const (
	// everybody is how many people use the stack, each of whom loads so many pages in a round.
	everybody = 200
	pagesEach = 5

	// asking is how many of them have an answer open, with a word each askPause: more than a person
	// reads.
	asking   = 50
	askPause = 100 * time.Millisecond
)

// signIn measures what it costs that people sign in: the time that a page takes, and memory, with
// as many people and open answers where nobody does. Rounds are taken in turns.
func (b *bench) signIn(ctx context.Context) error {
	t := b.report.table(
		fmt.Sprintf("Sign-in: %d people, %d of them with an open answer", everybody, asking),
		fmt.Sprintf("%d pages at the gate, one after the other, while each answer gets ten words a "+
			"second. memory: resident, of the four services and Redis.",
			b.rounds*everybody*pagesEach),
		"median", "p99", "added p99", "memory", "added memory")

	crowds := make([]*crowd, 0, 2)
	for _, signIn := range []string{gateenv.None, gateenv.Accounts} {
		c, err := b.newCrowd(ctx, signIn)
		if c != nil {
			defer c.stop()
		}
		if err != nil {
			return err
		}

		crowds = append(crowds, c)
	}

	for round := range b.rounds {
		for i := range crowds {
			if err := crowds[(i+round)%len(crowds)].round(ctx, t); err != nil {
				return err
			}
		}
		b.say("  round %d of %d", round+1, b.rounds)
	}

	for _, c := range crowds {
		r := t.row(c.name)
		r.Cells["median"] = &cell{Value: median(c.pages), Unit: precise, Samples: c.pages}
		r.Cells["p99"] = &cell{Value: percentile99(c.pages), Unit: precise}
	}

	off, on := t.row(crowds[0].name), t.row(crowds[1].name)
	for added, of := range map[string]string{"added p99": "p99", "added memory": "memory"} {
		on.Cells[added] = &cell{
			Value: on.Cells[of].Value - off.Cells[of].Value, Unit: on.Cells[of].Unit,
		}
	}

	return nil
}

// crowd is the people who use a chain of services.
type crowd struct {
	*chain
	name   string
	model  *http.Server
	people []*http.Client

	// pages are the times that pages took, in milliseconds.
	pages []float64
}

// stop stops the services and the model.
func (c *crowd) stop() {
	c.chain.stop()
	_ = c.model.Close()
}

// newCrowd starts the services and lets everybody in. What it returns beside an error is to be
// stopped as well.
func (b *bench) newCrowd(ctx context.Context, signIn string) (*crowd, error) {
	services, err := b.newChain(ctx, "people-"+signIn)
	if err != nil {
		return nil, err
	}

	c := &crowd{chain: services, name: "sign-in: " + signIn, model: &http.Server{}}
	if err := c.slowModel(ctx); err != nil {
		return c, err
	}

	c.env["gate"] = append(c.env["gate"], "SIGN_IN="+signIn)
	if signIn != gateenv.None { // as stacks have it where people sign in
		audit, err := c.audits()
		if err != nil {
			return c, err
		}
		for _, service := range []string{stacks.Gate, stacks.Backend} {
			c.env[service] = append(c.env[service], audit...)
		}
	}
	if _, err := c.all(ctx); err != nil {
		return c, err
	}

	for n := range everybody {
		p, err := c.person(ctx, n, signIn)
		if err != nil {
			return c, fmt.Errorf("person %d: %w", n, err)
		}
		c.people = append(c.people, p)
	}

	return c, nil
}

// slowModel puts a model whose answers take their time in front of Ollama.
func (c *crowd) slowModel(ctx context.Context) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}

	ollama := &url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", c.ports["ollama"])}
	c.model.Handler = slowmodel.New(ollama)
	go func() { _ = c.model.Serve(l) }()
	c.env["ml"] = append(c.env["ml"], "OLLAMA_API_URL=http://"+l.Addr().String(),
		fmt.Sprintf("MAX_PARALLEL=%d", asking))
	return nil
}

var invitationCode = regexp.MustCompile(`[A-Z2-7]{26}`)

// person returns the browser of one more person, who is signed in if people do so.
func (c *chain) person(ctx context.Context, n int, signIn string) (*http.Client, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}

	p := &http.Client{Jar: jar}
	if signIn == gateenv.None {
		_, err := c.page(ctx, p)
		return p, err
	}

	name := fmt.Sprintf("person%d", n)
	cmd := c.command(ctx, "", c.binary("gate"), "user", "invite", name)
	cmd.Env = c.env["gate"]
	said, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("gate user invite: %w: %s", err, said)
	}

	const password = "a horse of another colour"
	form := url.Values{
		"name": {name}, "code": {invitationCode.FindString(string(said))},
		"password": {password}, "again": {password},
	}

	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url("gate", "/invitation"),
		strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}

	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := p.Do(req) // which leads to the page
	if err != nil {
		return nil, err
	}

	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Request.URL.Path != "/" {
		return nil, fmt.Errorf("the invitation leads to %s: %s", resp.Request.URL, resp.Status)
	}

	return p, nil
}

// page returns how long the person's page takes, in milliseconds.
func (c *chain) page(ctx context.Context, p *http.Client) (float64, error) {
	begin := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url("gate", "/"), nil)
	if err != nil {
		return 0, err
	}

	req.Header.Set("Accept", "text/html")
	resp, err := p.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()

	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK || resp.Request.URL.Path != "/" {
		return 0, fmt.Errorf("%s: %s", resp.Request.URL, resp.Status)
	}

	return time.Since(begin).Seconds() * 1000, nil
}

// ask opens an answer that goes on for longer than a round.
func (c *crowd) ask(ctx context.Context, p *http.Client) (*http.Response, error) {
	question := slowmodel.Question(99999, askPause)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url("gate", "/api/chat"),
		strings.NewReader(`{"message": "`+question+`"}`))
	if err != nil {
		return nil, err
	}

	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "text/event-stream")
	resp, err := p.Do(req)
	if err != nil {
		return nil, err
	}

	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body) // only for the message
		return nil, fmt.Errorf("a question: %s: %s", resp.Status, b)
	}

	go func() { _, _ = io.Copy(io.Discard, resp.Body) }()
	return resp, nil
}

// round measures everybody's pages while some have answers open, and then memory.
func (c *crowd) round(ctx context.Context, t *table) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var open []string
	for _, p := range c.people[:asking] {
		resp, err := c.ask(ctx, p)
		if err != nil {
			return err
		}
		open = append(open, resp.Header.Get("Location"))
	}

	defer func() {
		for i, events := range open {
			c.stopAnswer(context.WithoutCancel(ctx), c.people[i], events)
		}
	}()

	for range pagesEach {
		for _, p := range c.people {
			took, err := c.page(ctx, p)
			if err != nil {
				return err
			}
			c.pages = append(c.pages, took)
		}
	}

	memory := 0.0
	for _, p := range c.running {
		if p.name != "redis" && !slices.Contains(own, p.name) {
			continue
		}

		rss, err := p.rss()
		if err != nil {
			return err
		}

		memory += rss
	}

	t.row(c.name).add("memory", bytesUnit, memory)
	return nil
}

// stopAnswer stops an answer, which would be written to its end without its readers.
func (c *crowd) stopAnswer(ctx context.Context, p *http.Client, events string) {
	path := strings.TrimSuffix(events, "/events")
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, c.url("gate", path), nil)
	if err != nil {
		return
	}
	if resp, err := p.Do(req); err == nil {
		resp.Body.Close()
	}
}
