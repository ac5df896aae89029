package stacks_test

import (
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestSession holds when people are signed out, and that a value that cannot be meant is refused.
func TestSession(t *testing.T) {
	const week = 7 * 24 * time.Hour
	for name, tt := range map[string]struct {
		overlay, session string
		idle, life       time.Duration
		wrong            string
	}{
		"legal":            {"legal", "{}", 12 * time.Hour, week, ""},
		"healthcare":       {"healthcare", "{}", 15 * time.Minute, week, ""},
		"both":             {"healthcare", `{"idle": "5m", "life": "12h"}`, 5 * time.Minute, 12 * time.Hour, ""},
		"idle alone":       {"legal", `{"idle": "1m"}`, time.Minute, week, ""},
		"life alone":       {"legal", `{"life": "8784h"}`, 12 * time.Hour, 8784 * time.Hour, ""},
		"as long as it is": {"legal", `{"idle": "12h", "life": "12h"}`, 12 * time.Hour, 12 * time.Hour, ""},
		"idle beyond life": {"legal", `{"life": "11h"}`, 0, 0, "session: a session ends after 12h0m0s"},
		"nobody signs in":  {"dev", `{"idle": "15m"}`, 0, 0, "session: is set, and nobody signs in"},
		"no unit":          {"legal", `{"idle": 15}`, 0, 0, `session.idle: "15" is no duration`},
		"seconds":          {"legal", `{"idle": "59s"}`, 0, 0, `session.idle: "59s" is no duration`},
		"more than a year": {"legal", `{"life": "8785h"}`, 0, 0, `session.life: "8785h" is no`},
		"an unknown key":   {"legal", `{"ilde": "15m"}`, 0, 0, "session.ilde: unknown key: did you mean idle?"},
		"no object":        {"legal", "15m", 0, 0, "session: must be an object"},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := stacks.DecodeSettings(map[string]string{"session": tt.session}, nil)
			v.AssumeSecrets = true
			var s stacks.Stack
			if err == nil {
				s, err = stacks.Load(tt.overlay, v, checkout())
			}
			if tt.wrong != "" {
				if err == nil || !strings.HasPrefix(err.Error(), "codexcontinue:"+tt.wrong) {
					t.Errorf("got %v, want %q", err, tt.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}

			c := s.Service(stacks.Gate).Contract.(*gateenv.Config)
			if c.SessionIdle != tt.idle || c.SessionLife != tt.life {
				t.Errorf("%s without use, %s in any case", c.SessionIdle, c.SessionLife)
			}
		})
	}
}
