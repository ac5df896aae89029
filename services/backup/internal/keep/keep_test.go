package keep

import (
	"slices"
	"testing"
	"time"
)

// TestKeeps makes a backup every six hours for two years, drops what the rule drops after each, and
// looks at what is left.
func TestKeeps(t *testing.T) {
	begin := time.Date(2024, 11, 1, 3, 0, 0, 0, time.UTC)
	end := time.Date(2026, 11, 26, 21, 0, 0, 0, time.UTC) // a Thursday
	for _, tt := range []struct {
		rule Rule
		want []string
	}{
		{Rule{Last: 3}, []string{"2026-11-26 21", "2026-11-26 15", "2026-11-26 09"}},
		{Rule{Daily: 3}, []string{"2026-11-26 21", "2026-11-25 21", "2026-11-24 21"}},
		{Rule{Weekly: 3}, []string{"2026-11-26 21", "2026-11-22 21", "2026-11-15 21"}},
		{Rule{Monthly: 3}, []string{"2026-11-26 21", "2026-10-31 21", "2026-09-30 21"}},
		{Rule{Last: 2, Daily: 2, Weekly: 2, Monthly: 2}, []string{
			"2026-11-26 21", "2026-11-26 15", "2026-11-25 21", "2026-11-22 21", "2026-10-31 21",
		}},
	} {
		var there []time.Time
		for at := begin; !at.After(end); at = at.Add(6 * time.Hour) {
			there = slices.Insert(there, 0, at)
			var left []time.Time
			for i, keep := range tt.rule.Keeps(there) {
				if keep {
					left = append(left, there[i])
				}
			}
			there = left
		}

		var got []string
		for _, at := range there {
			got = append(got, at.Format("2006-01-02 15"))
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%+v keeps %q, want %q", tt.rule, got, tt.want)
		}
	}
}

// TestDue: the next backup is at a time of the day, however late the last one was.
func TestDue(t *testing.T) {
	for _, tt := range []struct {
		last, every, at, want string
	}{
		{"2026-11-26 02:30:00", "24h", "2h30m", "2026-11-27 02:30:00"},
		{"2026-11-26 02:29:59", "24h", "2h30m", "2026-11-26 02:30:00"},
		{"2026-11-26 17:00:00", "24h", "2h30m", "2026-11-27 02:30:00"},
		{"2026-11-26 02:31:00", "6h", "2h30m", "2026-11-26 08:30:00"},
		{"2026-11-26 23:00:00", "6h", "2h30m", "2026-11-27 02:30:00"},
		{"2026-11-26 00:10:00", "1h", "0s", "2026-11-26 01:00:00"},
		{"2026-11-26 00:10:00", "15m", "7m", "2026-11-26 00:22:00"},
	} {
		last, err := time.Parse(time.DateTime, tt.last)
		if err != nil {
			t.Fatal(err)
		}
		every, _ := time.ParseDuration(tt.every)
		at, _ := time.ParseDuration(tt.at)
		if got := Due(last, every, at).Format(time.DateTime); got != tt.want {
			t.Errorf("after %s, every %s at %s: %s, want %s", tt.last, tt.every, tt.at, got, tt.want)
		}
	}

	if now := time.Now(); Due(time.Time{}, time.Hour, 0).After(now) {
		t.Error("the first one is not due")
	}
}
