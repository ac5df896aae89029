// Package keep says which backups stay, and when the next one is due.
package keep

import (
	"fmt"
	"time"
)

// Rule is how many backups stay. Each number counts days, weeks or months that have a backup, of
// which the last one stays; Last counts the last ones whenever they were made. A backup stays if
// one of the numbers keeps it. Days begin at midnight UTC, weeks on Monday.
type Rule struct {
	Last, Daily, Weekly, Monthly int
}

// Keeps reports for each backup whether it stays. The times are from the last one to the first.
func (r Rule) Keeps(newestFirst []time.Time) []bool {
	kept := make([]bool, len(newestFirst))
	for i := range min(r.Last, len(kept)) {
		kept[i] = true
	}

	for _, rule := range []struct {
		n      int
		period func(time.Time) string
	}{
		{r.Daily, func(t time.Time) string { return t.Format(time.DateOnly) }},
		{r.Weekly, func(t time.Time) string {
			year, week := t.ISOWeek()
			return fmt.Sprint(year, " ", week)
		}},
		{r.Monthly, func(t time.Time) string { return t.Format("2006-01") }},
	} {
		last, left := "", rule.n
		for i, t := range newestFirst {
			if left == 0 {
				break
			}
			if p := rule.period(t.UTC()); p != last {
				kept[i], last = true, p
				left--
			}
		}
	}

	return kept
}

// Due returns when a backup is due: at the time of a day in UTC, and each time every has passed
// since, that follows the last one. A last one that is zero makes it due at once.
func Due(last time.Time, every, at time.Duration) time.Time {
	if last.IsZero() {
		return last
	}

	last = last.UTC()
	first := last.Truncate(24 * time.Hour).Add(at).Add(-24 * time.Hour)
	passed := last.Sub(first) / every
	return first.Add((passed + 1) * every)
}
