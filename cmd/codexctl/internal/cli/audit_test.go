package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
)

// TestAuditTable holds what people see of records: names of accounts that there are, pseudonyms of
// others, and nothing that a record could do to a terminal.
func TestAuditTable(t *testing.T) {
	at := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	var lines []string
	for i, r := range []auditlog.Record{
		{Action: auditlog.Question, Outcome: auditlog.Intent, Actor: "p1", Address: "192.0.2.7"},
		{Action: auditlog.SignIn, Outcome: auditlog.Refused, Object: "p1"},
		{Action: auditlog.Delete, Outcome: auditlog.Done, Actor: "p2", Object: "conversation:x"},
		{Action: auditlog.Configuration, Outcome: auditlog.Done, By: "ca\x1b[31mrol",
			Detail: map[string]string{"revision": "abc", "settings": "def"}},
	} {
		r.Number, r.Time = int64(i)+1, at
		lines = append(lines, auditlog.Key{}.Seal(r))
	}

	var out strings.Builder
	if err := writeAudit(&out, lines, map[string]string{"p1": "ada"}); err != nil {
		t.Fatal(err)
	}

	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	const when = " 2026-11-26 12:00:00 "
	want := []string{
		"RECORD TIME WHO FROM DID OUTCOME ABOUT MODEL BYTES",
		"1" + when + "ada 192.0.2.7 question intent 0",
		"2" + when + "sign-in refused ada 0",
		"3" + when + "p2 delete done conversation:x 0",
		"4" + when + `"ca\x1b[31mrol" configuration done abc def 0`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("printed is\n%s", strings.Join(got, "\n"))
	}

	if err := writeAudit(&out, []string{"x"}, nil); err == nil {
		t.Error("what is no record was printed")
	}
}
