package usage

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDays(t *testing.T) {
	got, err := Days(map[string]string{
		"q:2026-03-14": "2", "p:2026-03-14": "30", "a:2026-03-14": "4",
		"q:2026-03-15": "1",
		"q:2026-03-13": "0", // a question that was taken back
		"asked":        "x=2026-03-14=y",
	})

	want := []Day{{"2026-03-15", Used{Questions: 1}}, {"2026-03-14", Used{2, 30, 4}}}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}

	if _, err := Days(map[string]string{"q:2026-03-14": "x"}); err == nil {
		t.Error("what is no number is taken")
	}
}

// TestLeft checks the end of a day, wherever the clock's zone is.
func TestLeft(t *testing.T) {
	west := time.FixedZone("west", -5*60*60)
	for at, want := range map[time.Time]time.Duration{
		time.Date(2026, 3, 14, 0, 0, 0, 0, time.UTC): 24 * time.Hour,
		// 1:00 of the 15th
		time.Date(2026, 3, 14, 20, 0, 0, 0, west):                  23 * time.Hour,
		time.Date(2026, 12, 31, 23, 59, 59, 900_000_000, time.UTC): time.Second,
	} {
		if got := Left(at); got != want {
			t.Errorf("%s: %s, want %s", at, got, want)
		}
	}

	if got := DayOf(time.Date(2026, 3, 14, 20, 0, 0, 0, west)); got != "2026-03-15" {
		t.Errorf("the day is %s", got)
	}
}
