package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/api"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/generation"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/mltest"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/audit"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/logging"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/services/internal/server"
	"github.com/codexcontinue/codexcontinue/services/internal/sse"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/codexcontinue/codexcontinue/stacks"
	redislog "github.com/redis/go-redis/v9/logging"
)

func TestMain(m *testing.M) {
	redislog.Disable() // as main does
	os.Exit(m.Run())
}

// patience bounds every wait of a test for something that should happen at once.
const patience = 20 * time.Second

// lease is short, so that tests of dead backends are.
const lease = 800 * time.Millisecond

// sweepEvery is how often an instance looks for orphaned answers.
const sweepEvery = 50 * time.Millisecond

// instance is one running backend.
type instance struct {
	t    testing.TB
	url  string
	jobs *generation.Manager
	srv  *server.Server

	// stop begins the shutdown, as SIGTERM does. stopped gets its outcome.
	stop    context.CancelFunc
	stopped chan error
}

type options struct {
	outage time.Duration
	drain  time.Duration
	model  string // the default model
	timing func(*generation.Timing)
	store  func(*store.Options)
	audit  *audit.Recorder

	// guard comes before every route.
	guard func(http.Handler) http.Handler

	// sign signs what ml is asked.
	sign func(ctx context.Context, owner string) string

	// knowledge is where the documents are; empty is without any.
	knowledge string
}

func newInstance(t testing.TB, redisURL, mlURL string, o options) *instance {
	t.Helper()
	return newInstanceAt(t, store.Address{URL: redisURL}, mlURL, o)
}

func newInstanceAt(t testing.TB, redis store.Address, mlURL string, o options) *instance {
	t.Helper()
	if o.outage == 0 {
		o.outage = 2 * time.Second
	}
	if o.drain == 0 {
		o.drain = patience
	}
	if o.model == "" {
		o.model = "codexcontinue"
	}

	timing := generation.DefaultTiming(time.Minute)
	timing.Poll = 50 * time.Millisecond
	timing.Admission = patience // a busy machine does not make a refusal late
	if o.timing != nil {
		o.timing(&timing)
	}

	var log *slog.Logger
	if testing.Verbose() {
		log = logging.New(t.Output(), "backend", "debug", false)
	} else {
		log = slog.New(slog.DiscardHandler)
	}

	stored := store.Options{Address: redis, TTL: time.Hour, Keep: time.Hour, Lease: lease,
		Outage: o.outage}
	if o.store != nil {
		o.store(&stored)
	}

	st, err := store.New(stored)
	if err != nil {
		t.Fatal(err)
	}

	srv := server.New("backend", log, o.drain)
	if o.guard != nil {
		srv.Guard(o.guard)
	}
	ml := hop.New("ml", mlURL)
	writing := hop.NewStreaming("ml", mlURL)
	if o.sign != nil {
		ml.Sign(o.sign)
		writing.Sign(o.sign)
	}
	jobs := generation.New(st, writing, o.model, timing, log, srv.Registry())
	jobs.Audit = o.audit
	var knowledge *hop.Client
	if o.knowledge != "" {
		knowledge = hop.New("knowledge", o.knowledge)
		knowledge.Sign(identity.NewSigner(identity.Backend).For(identity.Knowledge))
		jobs.Knowledge = knowledge
	}
	if err := api.Register(srv, api.Options{
		Store:        st,
		Audit:        o.audit,
		Jobs:         jobs,
		ML:           ml,
		Knowledge:    knowledge,
		DefaultModel: o.model,
		Ratings:      true,
		Log:          log,
		Owner:        tokenOwner,
		Draining:     srv.Draining,
	}); err != nil {
		t.Fatal(err)
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	ctx, stop := context.WithCancel(context.Background())
	i := &instance{
		t:       t,
		url:     "http://" + l.Addr().String(),
		jobs:    jobs,
		srv:     srv,
		stop:    stop,
		stopped: make(chan error, 1),
	}

	go func() { i.stopped <- srv.Serve(ctx, l, jobs.Drain) }()
	go jobs.Sweep(ctx, sweepEvery)
	t.Cleanup(func() {
		stop()
		select {
		case <-i.stopped:
		case <-time.After(patience):
			t.Error("the instance does not stop")
		}
		st.Close()
	})

	return i
}

// tokenOwner takes the tokens "for NAME".
func tokenOwner(_ context.Context, token string) (string, error) {
	if owner, ok := strings.CutPrefix(token, "for "); ok {
		return owner, nil
	}
	return "", identity.ErrInvalid
}

// stack is one backend with its peers.
func stack(t testing.TB) (*instance, *mltest.Server, *redistest.Server) {
	t.Helper()
	redis, ml := redistest.StartAs(t, stacks.Backend), mltest.Start(t)
	// The instance is cleaned up first: its requests to ml end before ml does.
	return newInstance(t, redis.URL, ml.URL, options{drain: time.Second}), ml, redis
}

// in is the instance in a subtest.
func (i *instance) in(t testing.TB) *instance {
	return &instance{t: t, url: i.url}
}

type header map[string]string

var alice = header{wire.OwnerHeader: "alice"}

func (h header) with(name, value string) header {
	out := header{name: value}
	for k, v := range h {
		out[k] = v
	}
	return out
}

func (i *instance) do(method, path string, body any, h header) *http.Response {
	i.t.Helper()
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(b)
	default:
		j, err := json.Marshal(b)
		if err != nil {
			i.t.Fatal(err)
		}
		r = bytes.NewReader(j)
	}

	req, err := http.NewRequest(method, i.url+path, r)
	if err != nil {
		i.t.Fatal(err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}

	for k, v := range h {
		req.Header.Set(k, v)
	}

	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		i.t.Fatal(err)
	}

	i.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// want does a request, checks the status and decodes the answer into out, which may be nil.
func (i *instance) want(
	status int, out any, method, path string, body any, h header,
) *http.Response {
	i.t.Helper()
	resp := i.do(method, path, body, h)
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		i.t.Fatal(err)
	}
	if resp.StatusCode != status {
		i.t.Fatalf("%s %s: status %d, want %d: %s", method, path, resp.StatusCode, status, b)
	}

	if out != nil {
		if err := json.Unmarshal(b, out); err != nil {
			i.t.Fatalf("%s %s: %v: %s", method, path, err, b)
		}
	}

	return resp
}

// refused does a request that must be answered with a problem of the status.
func (i *instance) refused(status int, method, path string, body any, h header) problem.Problem {
	i.t.Helper()
	var p problem.Problem
	resp := i.want(status, &p, method, path, body, h)
	if ct := resp.Header.Get("Content-Type"); ct != problem.ContentType {
		i.t.Errorf("%s %s: content type %q, want %q", method, path, ct, problem.ContentType)
	}

	if p.Status != status || p.Title == "" || p.RequestID == "" ||
		p.RequestID != resp.Header.Get(wire.RequestIDHeader) {
		i.t.Errorf("%s %s: incomplete problem %+v", method, path, p)
	}

	return p
}

// metric waits until a line of /metrics says so.
func (i *instance) metric(line string) {
	i.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		b, err := io.ReadAll(i.do(http.MethodGet, "/metrics", nil, nil).Body)
		if err != nil {
			i.t.Fatal(err)
		}
		if strings.Contains(string(b), "\n"+line+"\n") {
			return
		}
		if time.Now().After(deadline) {
			name := line[:strings.IndexAny(line, "{ ")]
			said := regexp.MustCompile("(?m)^"+regexp.QuoteMeta(name)+".*").FindAllString(string(b), -1)
			i.t.Fatalf("/metrics never says %s, but %q", line, said)
		}
	}
}

// idle waits until no answer is being written here.
func (i *instance) idle() { i.metric("backend_generations_active 0") }

func (i *instance) send(h header, conversation, message string) backendapi.Generation {
	i.t.Helper()
	var g backendapi.Generation
	i.want(http.StatusAccepted, &g, http.MethodPost, "/api/chat",
		backendapi.ChatRequest{ConversationID: conversation, Message: message}, h)
	return g
}

func (i *instance) detail(h header, conversation string) backendapi.ConversationDetail {
	i.t.Helper()
	var d backendapi.ConversationDetail
	i.want(http.StatusOK, &d, http.MethodGet, "/api/conversations/"+conversation, nil, h)
	return d
}

// reader follows an answer.
type reader struct {
	t      testing.TB
	resp   *http.Response
	events *sse.Reader
}

func (i *instance) follow(h header, generation, after string) *reader {
	i.t.Helper()
	if after != "" {
		h = h.with("Last-Event-ID", after)
	}

	resp := i.do(http.MethodGet, "/api/generations/"+generation+"/events", nil, h)
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(resp.Body)
		i.t.Fatalf("follow: %s: %s", resp.Status, b)
	}

	return &reader{t: i.t, resp: resp, events: sse.NewReader(resp.Body)}
}

func (r *reader) next() sse.Event {
	r.t.Helper()
	e, err := r.events.Next()
	if err != nil {
		r.t.Fatalf("the stream of events ended early: %v", err)
	}
	return e
}

// rest reads to the end: all the text, the last event, and all ids.
func (r *reader) rest() (text string, last sse.Event, ids []string) {
	r.t.Helper()
	for {
		e, err := r.events.Next()
		if errors.Is(err, io.EOF) {
			return text, last, ids
		}
		if err != nil {
			r.t.Fatal(err)
		}

		ids = append(ids, e.ID)
		last = e
		if e.Name == backendapi.EventDelta {
			text += delta(r.t, e)
		}
	}
}

func delta(t testing.TB, e sse.Event) string {
	t.Helper()
	var d backendapi.Delta
	if err := json.Unmarshal([]byte(e.Data), &d); err != nil {
		t.Fatal(err)
	}
	return d.Text
}

// soon waits for a value that the test's other side sends.
func soon[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}
