package web

import (
	"fmt"
	"time"
)

// kept returns the sentence that says how long conversations are kept; "" if that is for ever.
func kept(ttl time.Duration) string {
	if ttl <= 0 {
		return ""
	}

	const day = 24 * time.Hour
	n, unit := ttl/day, "day"
	switch {
	case ttl < time.Hour:
		n, unit = ttl/time.Minute, "minute"
	case ttl%day != 0:
		n, unit = ttl/time.Hour, "hour"
	}

	if n != 1 {
		unit += "s"
	}

	return fmt.Sprintf("A conversation is deleted %d %s after its last change.", n, unit)
}
