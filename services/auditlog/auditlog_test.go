package auditlog_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
)

// write returns the lines of so many records behind the lines, under the key.
func write(key auditlog.Key, lines []string, count int) []string {
	lines = slices.Clone(lines)
	for range count {
		r := auditlog.Record{
			Number: int64(len(lines)) + 1, ID: fmt.Sprint("act", len(lines)), Service: "gate",
			Action: auditlog.Question, Outcome: auditlog.Intent, Bytes: 100 + len(lines),
			Time: time.Date(2026, 11, 26, 0, len(lines), 0, 0, time.UTC),
		}
		if len(lines) > 0 {
			r.Prev = auditlog.Hash(lines[len(lines)-1])
		}

		lines = append(lines, key.Seal(r))
	}

	return lines
}

// check returns what the check says of the lines.
func check(c *auditlog.Chain, lines []string) (string, error) {
	for _, line := range lines {
		if err := c.Add(line); err != nil {
			return "", err
		}
	}
	return c.End()
}

// TestChain tampers with records in each way that there is.
func TestChain(t *testing.T) {
	key, other := auditlog.NewKey("secret"), auditlog.NewKey("another")
	all := write(key, nil, 6)
	plain := write(auditlog.Key{}, nil, 6)
	for name, tt := range map[string]struct {
		key   auditlog.Key
		lines []string
		want  string // in the verdict, or in the error
		fails bool
	}{
		"as written":         {key, all, "6 records, 1 to 6", false},
		"none":               {key, nil, "no records", false},
		"the oldest dropped": {key, all[2:], "from record 3, of 2026-11-26, on", false},
		"without a key":      {auditlog.Key{}, plain, "has no key", false},

		"a word changed": {key, slices.Concat(all[:2],
			[]string{strings.Replace(all[2], `"bytes":102`, `"bytes":999`, 1)}, all[3:]),
			"record 3,", true},
		"the last one changed": {key, slices.Concat(all[:5],
			[]string{strings.Replace(all[5], `"bytes":105`, `"bytes":999`, 1)}), "record 6,", true},
		"changed where there is no key": {auditlog.Key{}, slices.Concat(plain[:2],
			[]string{strings.Replace(plain[2], `"bytes":102`, `"bytes":999`, 1)}, plain[3:]),
			"record 3,", true},
		"the MAC changed": {key, slices.Concat(all[:2],
			[]string{strings.Replace(all[2], `"mac":"`, `"mac":"x`, 1)}, all[3:]), "record 3,", true},
		"one lost after the oldest were dropped": {key, slices.Concat(all[2:4], all[5:]),
			"record 5: it is lost", true},
		"one lost":      {key, slices.Concat(all[:2], all[3:]), "record 3: it is lost", true},
		"two exchanged": {key, []string{all[0], all[2], all[1], all[3]}, "record 2: it is lost", true},
		"one twice":     {key, slices.Concat(all[:3], all[2:]), "record 3,", true},
		"no record":     {key, slices.Concat(all[:3], []string{"{}"}, all[3:]), "after record 3", true},
		"made by somebody without the key": {key, slices.Concat(all, write(other, all, 1)[6:]),
			"record 7,", true},
		"made without a MAC":    {key, write(auditlog.Key{}, all, 2), "record 7,", true},
		"made anew from one on": {key, write(other, all[:3], 3), "record 4,", true},
		"put in between": {key, slices.Concat(all[:3], write(other, all[:3], 1)[3:], all[3:]),
			"record 4,", true},

		"the key was changed": {key, write(key, write(other, nil, 3), 2), "3 of them", false},
		"changed before the key was": {key, slices.Concat(all[:0],
			[]string{strings.Replace(write(other, nil, 1)[0], `"bytes":100`, `"bytes":9`, 1)},
			write(key, write(other, nil, 1), 2)[1:]), "record 1,", true},
	} {
		said, err := check(auditlog.NewChain(tt.key), tt.lines)
		if err != nil {
			said = err.Error()
		}
		if fails := err != nil; fails != tt.fails || !strings.Contains(said, tt.want) {
			t.Errorf("%s: %q", name, said)
		}
	}
}

// TestCompare finds in a copy what the stack has lost.
func TestCompare(t *testing.T) {
	key := auditlog.NewKey("secret")
	all := write(key, nil, 6)
	anew := write(key, all[:4], 2)
	anew[5] = write(key, slices.Concat(all[:4], []string{all[0]}), 1)[5]
	for name, tt := range map[string]struct {
		lines, copied []string
		compared      int
		want          string
	}{
		"the same":                {all, all, 6, ""},
		"an older copy":           {all, all[:3], 3, ""},
		"in another order":        {all, []string{all[4], all[1]}, 2, ""},
		"older than what is kept": {all[3:], all[:5], 2, ""},
		"the end cut off":         {all[:4], all, 0, "record 5,"},
		"all gone":                {nil, all, 0, "the stack none"},
		"the end made anew":       {anew, all, 0, "record 6,"},
		"another past":            {all[3:], write(auditlog.Key{}, nil, 3)[2:], 0, "record 3,"},
		"no copy":                 {all, []string{"x"}, 0, "line 1"},
	} {
		n, err := auditlog.Compare(tt.lines, tt.copied)
		if tt.want == "" && err == nil && n == tt.compared {
			continue
		}
		if tt.want == "" || err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
}

// TestName holds that names tell nothing without the key, and differ by what they are of.
func TestName(t *testing.T) {
	key := auditlog.NewKey("secret")
	name := key.Name("conversation", "id")
	if name != key.Name("conversation", "id") || name == key.Name("answer", "id") ||
		name == auditlog.NewKey("another").Name("conversation", "id") ||
		!strings.HasPrefix(name, "conversation:") || len(name) != len("conversation:")+16 {
		t.Errorf("%s", name)
	}
}
