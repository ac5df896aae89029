package audit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/internal/audit"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/redisclient"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/redis/go-redis/v9"
)

const secret = "the key of the records"

// recorder returns a recorder of the service at the Redis.
func recorder(t testing.TB, url string, lines *bytes.Buffer) *audit.Recorder {
	t.Helper()
	o := audit.Options{
		Address: redisclient.Address{URL: url}, Service: stacks.Backend,
		Key: auditlog.NewKey(secret), Log: slog.New(slog.DiscardHandler),
	}
	if lines != nil {
		o.Lines = lines
	}

	r, err := audit.New(o)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(r.Close)
	return r
}

// read returns all lines that are stored, after a check of the chain.
func read(t testing.TB, url string) []string {
	t.Helper()
	all, err := audit.NewReader(redisclient.Address{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()

	var lines []string
	chain := auditlog.NewChain(auditlog.NewKey(secret))
	err = all.Each(t.Context(), "", func(line string) error {
		lines = append(lines, line)
		return chain.Add(line)
	})
	if err == nil {
		_, err = chain.End()
	}
	if err != nil {
		t.Error(err)
	}

	return lines
}

// reader returns the URL by which the gate reads the records of a server.
func reader(s *redistest.Server) string { return "redis://" + s.Addr + "/0" }

func TestRecord(t *testing.T) {
	s := redistest.StartAs(t, stacks.Backend)
	var log bytes.Buffer
	r := recorder(t, s.URL, &log)
	act, err := r.Begin(t.Context(), auditlog.Record{
		Action: auditlog.Question, Actor: "ada", Bytes: 12,
	})
	if err != nil {
		t.Fatal(err)
	}

	act.Record.Tokens = 3
	act.End(auditlog.Done)
	r.BeginAnyway(t.Context(), auditlog.Record{Action: auditlog.Stop}).End(auditlog.Failed)
	const phrase = "a text in the place of a model"
	r.Note(t.Context(), auditlog.Record{Action: auditlog.SignIn, Model: phrase}, auditlog.Refused)
	r.Close()

	lines := read(t, reader(s))
	var got []string
	for i, line := range lines {
		record, err := auditlog.Parse(line)
		if err != nil || record.Service != stacks.Backend || record.Number != int64(i)+1 ||
			time.Since(record.Time) > time.Minute {
			t.Errorf("%s: %v", line, err)
		}
		got = append(got, fmt.Sprint(record.Action, " ", record.Outcome, " ", record.Tokens))
	}

	want := []string{
		"question intent 0", "question done 3", "stop intent 0", "stop failed 0",
		"sign-in refused 0",
	}
	if !slices.Equal(got, want) {
		t.Errorf("recorded are %q", got)
	}

	first, _ := auditlog.Parse(lines[0])
	second, _ := auditlog.Parse(lines[1])
	if first.ID == "" || first.ID != second.ID {
		t.Errorf("intent and outcome are %q and %q", first.ID, second.ID)
	}

	if strings.Contains(log.String(), phrase) {
		t.Error("a text is recorded")
	}
	if log.String() != strings.Join(lines, "\n")+"\n" {
		t.Errorf("logged is\n%s", log.String())
	}
}

// TestNone holds that a stack without an audit records nothing.
func TestNone(t *testing.T) {
	var r *audit.Recorder
	act, err := r.Begin(t.Context(), auditlog.Record{})
	act.End(auditlog.Done)
	r.Note(t.Context(), auditlog.Record{}, auditlog.Done)
	r.Close()
	if act != nil || err != nil || r.BeginAnyway(t.Context(), auditlog.Record{}) != nil ||
		r.Name("conversation", "c") != "" {
		t.Errorf("an act %v, %v", act, err)
	}
}

// TestManyWriters has two processes with 50 writers together keep one chain.
func TestManyWriters(t *testing.T) {
	const processes, writers, each = 2, 25, 20
	if url := os.Getenv("AUDIT_TEST_URL"); url != "" {
		r := recorder(t, url, nil)
		var all sync.WaitGroup
		for range writers {
			all.Go(func() {
				for range each {
					act, err := r.Begin(t.Context(), auditlog.Record{Action: auditlog.Question})
					if err != nil {
						t.Error(err)
					}
					act.End(auditlog.Done)
				}
			})
		}

		all.Wait()
		return
	}

	s := redistest.StartAs(t, stacks.Backend)
	var all sync.WaitGroup
	for range processes {
		all.Go(func() {
			c := exec.Command(os.Args[0], "-test.run=^TestManyWriters$")
			c.Env = append(os.Environ(), "AUDIT_TEST_URL="+s.URL)
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}

	all.Wait()

	if n := len(read(t, reader(s))); n != processes*writers*each*2 {
		t.Errorf("%d records", n)
	}
}

// TestRefused holds that an act fails that cannot be recorded, but for those that go on.
func TestRefused(t *testing.T) {
	s := redistest.StartAs(t, stacks.Backend)
	r := recorder(t, s.URL, nil)
	resume := s.Pause(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := r.Begin(ctx, auditlog.Record{Action: auditlog.Question})
	var p *problem.Problem
	if !errors.As(err, &p) || p.Status != http.StatusServiceUnavailable || p.RetryAfter == 0 {
		t.Errorf("a question that cannot be recorded: %v", err)
	}

	begun := time.Now()
	act := r.BeginAnyway(t.Context(), auditlog.Record{Action: auditlog.Stop})
	if act == nil || time.Since(begun) > 5*time.Second { // of the eight for which others wait
		t.Errorf("a stop took %s: %v", time.Since(begun), act)
	}

	resume()
	act.End(auditlog.Done)
	r.Close()

	// Redis may have taken the question after it was given up.
	acts := map[auditlog.Action][]auditlog.Outcome{}
	for _, line := range read(t, reader(s)) {
		record, _ := auditlog.Parse(line)
		acts[record.Action] = append(acts[record.Action], record.Outcome)
	}

	if q := acts[auditlog.Question]; len(q) > 0 && q[len(q)-1] != auditlog.Refused {
		t.Errorf("the question is recorded as %q", q)
	}

	if want := []auditlog.Outcome{auditlog.Intent, auditlog.Done}; !slices.Equal(
		slices.Compact(acts[auditlog.Stop]), want) {
		t.Errorf("the stop is recorded as %q", acts[auditlog.Stop])
	}
}

// TestFull holds that a Redis without memory refuses what could be left undone, and takes the rest.
func TestFull(t *testing.T) {
	s := redistest.StartAs(t, stacks.Backend, "--maxmemory", "1", "--maxmemory-policy",
		"noeviction")
	r := recorder(t, s.URL, nil)
	_, err := r.Begin(t.Context(), auditlog.Record{Action: auditlog.Question})
	var p *problem.Problem
	if !errors.As(err, &p) || p.Status != http.StatusInsufficientStorage {
		t.Errorf("a question: %v", err)
	}

	r.Note(t.Context(), auditlog.Record{Action: auditlog.SignIn}, auditlog.Refused)
	r.BeginAnyway(t.Context(), auditlog.Record{Action: auditlog.Delete}).End(auditlog.Done)
	r.Note(t.Context(), auditlog.Record{Action: auditlog.Answer}, auditlog.Done)
	r.Close()
	if lines := read(t, reader(s)); len(lines) != 3 {
		t.Errorf("recorded are %q", lines)
	}
}

// TestRestart has a Redis that has lost everything begin a new chain, and what is done all the same
// wait for it.
func TestRestart(t *testing.T) {
	s := redistest.StartAs(t, stacks.Backend)
	r := recorder(t, s.URL, nil)
	if _, err := r.Begin(t.Context(), auditlog.Record{Action: auditlog.Question}); err != nil {
		t.Fatal(err)
	}

	s.Kill(t)
	act := r.BeginAnyway(t.Context(), auditlog.Record{Action: auditlog.Delete})
	s.Restart(t)
	act.End(auditlog.Done)
	if _, err := r.Begin(t.Context(), auditlog.Record{Action: auditlog.Question}); err != nil {
		t.Error(err)
	}

	r.Close()
	if lines := read(t, reader(s)); len(lines) != 3 {
		t.Errorf("recorded are %q", lines)
	}
}

// TestAppendOnly tries as each service what would change or remove a record.
func TestAppendOnly(t *testing.T) {
	for _, service := range []string{
		stacks.Backend, stacks.Gate, stacks.ML, stacks.Knowledge, stacks.Backup,
	} {
		s := redistest.StartAs(t, service)
		admin := s.Client(t)
		const list = "{audit}:2026-11-26"
		for _, key := range []string{"{audit}:days", list} {
			if err := admin.RPush(t.Context(), key, "one", "two").Err(); err != nil {
				t.Fatal(err)
			}
		}

		opt, err := redis.ParseURL(s.URL)
		if err != nil {
			t.Fatal(err)
		}

		opt.Password = "any"
		c := redis.NewClient(opt)
		t.Cleanup(func() { c.Close() })

		commands := []string{
			"del", "unlink", "lpop", "rpop", "lpush x", "linsert before one x", "lset 0 x",
			"lrem 0 one", "ltrim 1 1", "expire 1", "pexpire 1", "expireat 1", "pexpireat 1",
			"persist", "set x", "getdel", "getex", "getset x", "append x", "setrange 0 x",
			"rename other", "renamenx other", "copy other", "move 1", "dump", "restore 0 x replace",
			"xadd * a b", "xtrim maxlen 0", "sort", "lmove gate:other left left",
			"rpoplpush gate:other", "lmpop", "blpop 1", "brpop 1", "hset a b", "sadd a", "zadd 1 a",
			"sort store other", "touch", "type", "object freq", "debug object", "llen",
		}
		if service == stacks.ML {
			commands = append(commands, "rpush x", "lindex 0", "lrange 0 -1")
		}

		for _, command := range commands {
			words := strings.Fields(command)
			words = slices.Insert(words, 1, list)
			args := make([]any, len(words))
			for i, w := range words {
				args[i] = w
			}

			if err := c.Do(t.Context(), args...).Err(); err == nil {
				t.Errorf("%s may %q", service, words)
			}

			script := "return redis.call('" + strings.Join(words, "', '") + "')"
			for _, keys := range [][]any{{0}, {1, list}} {
				line := slices.Concat([]any{"eval", script}, keys)
				if err := c.Do(t.Context(), line...).Err(); err == nil {
					t.Errorf("%s may %q by a script", service, words)
				}
			}
		}

		for _, key := range []string{"{audit}:days", list} {
			if got := admin.LRange(t.Context(), key, 0, -1).Val(); !slices.Equal(got,
				[]string{"one", "two"}) {
				t.Errorf("%s has left %q", service, got)
			}
		}
	}
}

// BenchmarkBegin is what the audit adds to a question.
func BenchmarkBegin(b *testing.B) {
	r := recorder(b, redistest.StartAs(b, stacks.Backend).URL, nil)
	var took []time.Duration
	for b.Loop() {
		begun := time.Now()
		act, err := r.Begin(b.Context(), auditlog.Record{
			Action: auditlog.Question, Actor: "abcdefghijklmnopqrstuvwxyz", Bytes: 100,
		})
		if err != nil {
			b.Fatal(err)
		}

		took = append(took, time.Since(begun))
		act.End(auditlog.Done)
	}

	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "median-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}
