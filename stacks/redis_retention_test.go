package stacks_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/redis/go-redis/v9"
)

const auditDays = "{audit}:days"

// retentionServer is the Redis of a healthcare stack, in which an hour is soon over.
type retentionServer struct {
	*passwordServer
	services map[string]*redis.Client
}

func newRetentionServer(t *testing.T) *retentionServer {
	t.Helper()
	s := &retentionServer{newPasswordServer(t), map[string]*redis.Client{}}
	s.ownCLI()
	s.write("sleep", "#!/bin/sh\nexec /bin/sleep 0.2\n")
	if err := os.Chmod(filepath.Join(s.dir, "sleep"), 0o700); err != nil {
		t.Fatal(err)
	}
	return s
}

// keep starts Redis with the retention.
func (s *retentionServer) keep(retention time.Duration) {
	s.t.Helper()
	settings := withPassword()
	settings.Audit = &stacks.AuditSettings{Retention: retention}
	settings.Services = map[string]stacks.ServiceSettings{stacks.Redis: {Memory: 16 * stacks.MiB}}
	settings.InternalTLS = new(false)
	stack := load(s.t, "healthcare", settings)
	s.startStack(stack, "secret")
	for service, password := range redisPasswords(stack, "secret") {
		s.services[service] = s.as(service, password)
	}
}

// push adds days with records.
func (s *retentionServer) push(days ...string) {
	s.t.Helper()
	gate, ctx := s.services[stacks.Gate], s.t.Context()
	for _, day := range days {
		err := errors.Join(gate.RPush(ctx, "{audit}:"+day, "a record").Err(),
			gate.RPush(ctx, auditDays, day).Err())
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// keeps fails the test unless the days that want says are soon the ones that there are, of all.
func (s *retentionServer) keeps(all []string, want ...string) {
	s.t.Helper()
	gate, ctx := s.services[stacks.Gate], s.t.Context()
	deadline := time.Now().Add(time.Minute)
	for {
		got := gate.LRange(ctx, auditDays, 0, -1).Val()
		if slices.Equal(got, want) {
			break
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("kept are %q, not %q:\n%s", got, want, s.out.String())
		}
		time.Sleep(20 * time.Millisecond)
	}

	for _, day := range all {
		records := gate.LRange(ctx, "{audit}:"+day, 0, -1).Val()
		if (len(records) > 0) != slices.Contains(want, day) {
			s.t.Errorf("of %s there are %q", day, records)
		}
	}
}

func ago(days int) string {
	return time.Now().UTC().AddDate(0, 0, -days).Format(time.DateOnly)
}

// TestRedisRetention holds that the stack's own Redis drops each day of the audit that is over for
// longer than the retention, except the last, and that no service can do so.
func TestRedisRetention(t *testing.T) {
	s := newRetentionServer(t)
	s.keep(48 * time.Hour)
	all := []string{ago(400), ago(4), ago(1), ago(0)}

	// The last day stays, of whatever age, as the next record follows its last.
	s.push(all[0])
	time.Sleep(time.Second)
	s.keeps(all, all[0])

	s.push(all[1:]...)
	s.keeps(all, all[2:]...)

	for service, c := range s.services {
		for _, command := range []string{"lpop " + auditDays, "unlink {audit}:" + all[2],
			"auth retention secret"} {
			err := c.Do(t.Context(), words(command)...).Err()
			if !refused(c, words(command)...) && !redis.HasErrorPrefix(err, "WRONGPASS") {
				t.Errorf("%s may %s: %v", service, command, err)
			}
		}
	}
	s.keeps(all, all[2:]...)
}

// TestRedisRetentionWhenFull holds that a shorter retention makes room in a Redis that is full.
func TestRedisRetentionWhenFull(t *testing.T) {
	s := newRetentionServer(t)
	s.keep(400 * 24 * time.Hour)
	all := []string{ago(300), ago(4), ago(1)}
	s.push(all...)
	gate := s.services[stacks.Gate]
	for i, large := 0, strings.Repeat("x", 256<<10); ; i++ {
		err := gate.Set(t.Context(), fmt.Sprint("gate:large-", i), large, 0).Err()
		if redis.IsOOMError(err) {
			break
		}
		if err != nil || i > 100 {
			t.Fatalf("Redis is not full after %d values: %v", i, err)
		}
	}
	s.keeps(all, all...)
	s.stop()

	s.keep(48 * time.Hour)
	s.keeps(all, all[2])
}

// TestRedisForgets holds that what has expired is in no file of Redis' a day later: of an
// append-only file that is small Redis itself makes no new one.
func TestRedisForgets(t *testing.T) {
	const phrase = "the pangolin sleeps at noon"
	s := newRetentionServer(t)
	s.keep(48 * time.Hour)
	store := func(life time.Duration) {
		t.Helper()
		err := s.services[stacks.Backend].Set(t.Context(), "conversation:1", phrase, life).Err()
		if err != nil {
			t.Fatal(err)
		}
	}
	await := func(want bool) {
		t.Helper()
		deadline := time.Now().Add(3 * time.Minute)
		for ; s.filesHave(phrase) != want; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("that a file has it is not %v:\n%s", want, s.out.String())
			}
		}
	}

	store(time.Hour) // it does not expire, and go, before it was seen
	await(true)
	store(300 * time.Millisecond)
	await(false)
}

// filesHave reports whether one of the server's append-only files has the text.
func (s *retentionServer) filesHave(text string) bool {
	s.t.Helper()
	names, err := filepath.Glob(filepath.Join(s.dir, "appendonlydir", "*"))
	if err != nil || len(names) == 0 {
		s.t.Fatalf("the server has the files %q, %v", names, err)
	}

	return slices.ContainsFunc(names, func(name string) bool {
		b, err := os.ReadFile(name) // it may be gone since
		return err == nil && bytes.Contains(b, []byte(text))
	})
}
