package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptrace"
	"net/url"
	"regexp"
	"strings"
	"time"
)

const (
	// requestTimeout bounds a request: longer than any part of the stack waits for another.
	requestTimeout = 60 * time.Second

	// refusedPause is the time after which a person tries again who was refused a connection.
	refusedPause = 250 * time.Millisecond

	// refusedFor is how long a person tries: then the stack is away, which is a failure.
	refusedFor = time.Minute

	// maxRead bounds what is read of one response in bytes.
	maxRead = 16 << 20
)

// browser is one person's: its cookies, its connections.
type browser struct {
	run    *Run
	name   string
	rng    *rand.Rand
	client *http.Client

	conversations []*conversation

	// keyed is set where pages have keys for messages, as they do since these can be sent again.
	keyed bool
}

// newBrowser makes the browser of the person with that number.
func (r *Run) newBrowser(name string, number int) *browser {
	var jar http.CookieJar
	if r.opts.Jar != nil {
		jar = r.opts.Jar(number)
	} else {
		jar, _ = cookiejar.New(nil) // fails for no options
	}

	t := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		MaxIdleConnsPerHost: 6, // as browsers
		IdleConnTimeout:     time.Minute,
		DisableCompression:  true,
	}

	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &browser{
		run:    r,
		name:   name,
		rng:    rand.New(rand.NewPCG(r.opts.Seed, uint64(number))),
		client: &http.Client{Transport: t, Jar: jar, CheckRedirect: stay},
	}
}

// statusError is an answer of the stack that says no.
type statusError struct {
	status int
	text   string

	// resend is what the stack says about sending a message again; where it says nothing, a gateway
	// that got no answer is meant.
	resend bool
}

func (e *statusError) Error() string { return fmt.Sprintf("HTTP %d: %s", e.status, e.text) }

// resendable reports whether the page's script would send a message again after this answer.
func resendable(status int, text []byte) bool {
	var reply struct {
		Error  string
		Resend *bool
	}

	_ = json.Unmarshal(text, &reply) // what is no JSON says nothing
	if reply.Resend != nil {
		return *reply.Resend
	}

	return status >= 502 && status <= 504 && reply.Error == ""
}

// The kinds of failures that are not an HTTP status.
const (
	failCut      = "connection cut"
	failTimeout  = "timeout"
	failDegraded = "page lacks what it should show"
	failContent  = "wrong content"
	failAway     = "no connection for a minute"
)

// kindOf names a failure.
func kindOf(err error) string {
	var s *statusError
	var n net.Error
	switch {
	case errors.As(err, &s):
		return fmt.Sprintf("HTTP %d", s.status)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &n) && n.Timeout():
		return failTimeout
	}

	return failCut
}

// refused reports whether no connection was made, so that nothing was sent.
func refused(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// refused reports whether the edge was away. Where an engine holds the published port for it, as
// Docker's proxy does, a connection is made and cut at once: that counts as refused while the
// edge is known to be away.
func (r *Run) refused(err error) bool {
	return refused(err) || r.edgeAway.Load() && err != nil && kindOf(err) == failCut
}

// EdgeAway tells that the one edge is being replaced or killed, until it is told otherwise.
func (r *Run) EdgeAway(away bool) { r.edgeAway.Store(away) }

// request makes a request of this site's own page.
func (b *browser) request(
	ctx context.Context,
	method, path string,
	form url.Values,
) (*http.Request, error) {
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}

	req, err := http.NewRequestWithContext(ctx, method, b.run.base+path, body)
	if err != nil {
		return nil, err
	}

	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", b.run.origin)
		if key := form.Get("key"); key != "" {
			req.Header.Set("Idempotency-Key", key)
		}
		// The transport takes a request with a key for one that it may send again by itself.
		req.GetBody = nil
	}

	req.Header.Set("Sec-Fetch-Site", "same-origin")
	// A transport that sends again by itself would hide a failure: it is seen taking another
	// connection.
	connections := 0
	got := func(httptrace.GotConnInfo) {
		if connections++; connections > 1 {
			b.run.count(func(r *Report) { r.TransportRetries++ })
		}
	}

	trace := &httptrace.ClientTrace{GotConn: got}
	return req.WithContext(httptrace.WithClientTrace(req.Context(), trace)), nil
}

// once sends one request and reads its answer whole. It counts the request and its time under kind,
// and its failure. A refused connection is counted apart, and is no request.
func (b *browser) once(
	ctx context.Context,
	kind, method, path, accept string,
	form url.Values,
) ([]byte, error) {
	if err := b.run.pace.wait(ctx); err != nil {
		return nil, err
	}

	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req, err := b.request(ctx, method, path, form)
	if err != nil {
		return nil, err
	}

	req.Header.Set("Accept", accept)
	began := time.Now()
	text, err := b.read(req)
	if b.run.hard.Err() != nil {
		return nil, b.run.hard.Err()
	}

	b.run.answered(kind, began, err)
	if err != nil && !b.run.refused(err) && kind != kindQuestion { // see ask
		b.run.fail(kind, kindOf(err), fmt.Sprintf("%s %s %s: %v", b.name, method, path, err))
	}

	return text, err
}

func (b *browser) read(req *http.Request) ([]byte, error) {
	resp, err := b.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()

	text, err := io.ReadAll(io.LimitReader(resp.Body, maxRead))
	if err != nil {
		return nil, err
	}

	if resp.StatusCode != http.StatusOK {
		return nil, &statusError{
			resp.StatusCode,
			brief(string(text)),
			resendable(resp.StatusCode, text),
		}
	}

	return text, nil
}

// send is once that tries again, like a person, while connections are refused.
func (b *browser) send(
	ctx context.Context,
	kind, method, path, accept string,
	form url.Values,
) ([]byte, error) {
	for began := time.Now(); ; {
		text, err := b.once(ctx, kind, method, path, accept, form)
		if err == nil || !b.run.refused(err) || !sleep(ctx, refusedPause) {
			return text, err
		}

		if time.Since(began) > refusedFor {
			b.run.fail(kind, failAway, fmt.Sprintf("%s %s %s: %v", b.name, method, path, err))
			return nil, err
		}
	}
}

const (
	acceptPage = "text/html"
	acceptJSON = "application/json"
)

// page loads a page, and fails where it says what it lacks.
func (b *browser) page(ctx context.Context, kind, path string) (page, error) {
	text, err := b.send(ctx, kind, http.MethodGet, path, acceptPage, nil)
	if err != nil {
		return page{}, err
	}

	p := readPage(text)
	b.keyed = b.keyed || p.key != ""
	if p.degraded != "" {
		b.run.fail(kind, failDegraded, fmt.Sprintf("%s GET %s: %s", b.name, path, p.degraded))
		return p, errors.New(p.degraded)
	}

	return p, nil
}

// page is what is looked at of a page.
type page struct {
	// key is the hidden field with the message's idempotency key, model the model that is chosen;
	// empty where there is none.
	key, model string

	// sources are the texts of the messages, as they were written.
	sources []string

	// degraded says what is missing.
	degraded string
}

var (
	mainTag    = regexp.MustCompile(`<main\b[^>]*>`)
	inputTag   = regexp.MustCompile(`<input\b[^>]*\bname="key"[^>]*>`)
	valueOf    = regexp.MustCompile(`\bvalue="([^"]*)"`)
	selected   = regexp.MustCompile(`<option\b[^>]*\bvalue="([^"]*)"[^>]*\bselected\b`)
	sourceTag  = regexp.MustCompile(`(?s)<template class="source">(.*?)</template>`)
	notLoaded  = []byte("The conversations cannot be loaded right now")
	notReached = []byte("cannot be shown right now")
)

func readPage(text []byte) page {
	var p page
	if m := valueOf.FindSubmatch(inputTag.Find(text)); m != nil {
		p.key = html.UnescapeString(string(m[1]))
	}
	if m := selected.FindSubmatch(text); m != nil {
		p.model = html.UnescapeString(string(m[1]))
	}

	for _, m := range sourceTag.FindAllSubmatch(text, -1) {
		p.sources = append(p.sources, html.UnescapeString(string(m[1])))
	}

	switch {
	case bytes.Contains(text, notLoaded):
		p.degraded = "the conversations are not listed"
	case bytes.Contains(text, notReached):
		p.degraded = "the conversation is not shown"
	case bytes.Contains(mainTag.Find(text), []byte("data-degraded")):
		p.degraded = "the page is marked as degraded"
	}

	return p
}

// brief is the beginning of a text on one line.
func brief(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > 160 {
		return string(r[:160]) + "..."
	}
	return s
}

// sleep waits; it reports false when ctx is done before.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
