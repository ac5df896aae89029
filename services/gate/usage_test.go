package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/services/internal/usage"
	"github.com/redis/go-redis/v9"
)

// uses stores what a person has used some days ago, as ml does.
func uses(t *testing.T, s *redistest.Server, id string, ago int, questions, prompt, answer int64) {
	t.Helper()
	day, r := usage.DayOf(time.Now().AddDate(0, 0, -ago)), s.Client(t)
	if err := r.HSet(t.Context(), usage.Key(id), "q:"+day, questions, "p:"+day, prompt, "a:"+day,
		answer, "asked", "x="+day+"=-").Err(); err != nil {
		t.Fatal(err)
	}

	if err := r.ZAdd(t.Context(), usage.People, redis.Z{Score: 1, Member: id}).Err(); err != nil {
		t.Fatal(err)
	}
}

// plain returns the words of a page.
func plain(body string) string {
	body = regexp.MustCompile(`(?s)<main.*</main>`).FindString(body)
	return strings.Join(strings.Fields(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(body, " ")),
		" ")
}

func (town *town) usage(line string) (string, error) {
	var out bytes.Buffer
	err := run(town.t.Context(), append([]string{"usage"}, strings.Fields(line)...), town.env, &out,
		io.Discard)
	return out.String(), err
}

// TestUsage: everybody sees what is their own, an admin what is everybody's, by name, as the
// command does. Nothing is left of somebody whose account is removed.
func TestUsage(t *testing.T) {
	town := newTown(t, func(c *gateenv.Config) {
		c.Limits = contract.Limits{RequestsPerDay: 100, RequestsAtOnce: 3}
	})
	if out, err := town.usage(""); err != nil || out != "Nobody has asked anything in 30 days.\n" {
		t.Errorf("%q, %v", out, err)
	}

	admin, member := town.visitor("192.0.2.1"), town.visitor("192.0.2.2")
	admin.join("ada", town.code("invite ada --admin"))
	admin.get("/")
	ada := town.person().ID
	member.join("bob", town.code("invite bob"))
	member.get("/")
	bob := town.person().ID
	uses(t, town.redis, ada, 0, 1, 2, 3)
	uses(t, town.redis, bob, 0, 12, 3000, 1234567)
	uses(t, town.redis, bob, 2, 5, 10, 20)
	uses(t, town.redis, bob, 31, 7, 1, 1)

	resp, body := member.get("/account/usage")
	text := plain(body)
	today := time.Now().UTC().Format("2 Jan")
	for _, want := range []string{
		"12 of 100 questions, 1,237,567 tokens.", "At most 3 questions at once.",
		today + " 12 3,000 1,234,567", "All 17 3,010 1,234,587", "Account Sessions Keys Usage",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("bob's page lacks %q: %s", want, text)
		}
	}

	if resp.StatusCode != http.StatusOK || strings.Contains(text, "Everybody") ||
		strings.Contains(text, "ada") || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("bob's page: %s %s", resp.Status, text)
	}

	_, body = admin.get("/account/usage")
	if text := plain(body); !strings.Contains(text, "1 of 100 questions, 5 tokens.") ||
		!strings.Contains(text, "bob 17 1,237,597 1,237,567 ada you 1 5 5") {
		t.Errorf("ada's page: %s", text)
	}

	out, err := town.usage("--days 40")
	table := `^WHO .*\nbob +24 +12 +3011 +1234588 +1237567\nada +1 +1 +2 +3 +5\n$`
	if err != nil || !regexp.MustCompile(table).MatchString(out) {
		t.Errorf("%v\n%s", err, out)
	}

	out, err = town.usage("--days 1 --json")
	var got struct {
		Days   int
		Limits map[string]int
		People []struct {
			Name string
			Days []usage.Day
		}
	}

	if err != nil || json.Unmarshal([]byte(out), &got) != nil || got.Days != 1 ||
		got.Limits["requests_per_day"] != 100 || len(got.People) != 2 ||
		got.People[0].Name != "bob" || len(got.People[0].Days) != 1 ||
		got.People[0].Days[0].Tokens != 1234567 {
		t.Errorf("%v\n%s", err, out)
	}

	for _, line := range []string{"--days 0", "--days 41", "--days x", "bob"} {
		if out, err := town.usage(line); err == nil {
			t.Errorf("gate usage %s: %s", line, out)
		}
	}

	town.user("remove bob")
	r := town.redis.Client(t)
	left := r.TTL(t.Context(), usage.Key(bob)).Val()
	if fields := r.HKeys(t.Context(), usage.Key(bob)).Val(); len(fields) != 1 ||
		fields[0] != usage.Erased || left <= 0 || left > usage.ErasedMark ||
		len(r.ZRange(t.Context(), usage.People, 0, -1).Val()) != 1 {
		t.Error("something is left of bob")
	}
}

// TestUsageIsPersonal: who is not signed in sees nothing, and where nobody signs in a browser
// sees what is its own.
func TestUsageIsPersonal(t *testing.T) {
	town := newTown(t)
	resp, _ := town.visitor("192.0.2.1").get("/account/usage")
	if resp.StatusCode != http.StatusSeeOther {
		t.Errorf("without sign-in: %s", resp.Status)
	}

	r, f := redistest.Start(t), newFrontend(t)
	base, _, _ := start(t, r.URL, f.URL)
	resp, err := http.Get(base + "/account/usage")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}

	text := plain(string(b))
	if !strings.Contains(text, "0 questions, 0 tokens. There is no limit.") ||
		!strings.Contains(text, "Keys Usage") {
		t.Errorf("%s %s", resp.Status, text)
	}
}
