package account

import (
	"context"
	"net/netip"
	"time"

	"github.com/codexcontinue/codexcontinue/services/gate/internal/pseudonym"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/store"
)

// bound bounds the attempts to sign in that have something in common. Some are free. Then there has
// to be a pause after each, twice as long as the one before.
type bound struct {
	kind           string
	free           int64
	first, longest time.Duration

	// memory is the time without attempts after which all is forgotten.
	memory time.Duration

	// once reports whether the right password makes all former attempts forgotten, not only its
	// own: it is so where all of them were one person's.
	once bool
}

// The bounds. Nobody can lock out another person with them: a browser in which somebody has
// signed in before is under byBrowser alone. That person's attempts, and those of others, do not
// count for each other.
var (
	// byBrowser is for a browser that the account knows.
	byBrowser = bound{"browser", 10, 2 * time.Second, 15 * time.Minute, 24 * time.Hour, true}

	// byAddress is for all accounts from one address.
	byAddress = bound{"address", 30, time.Second, 5 * time.Minute, time.Hour, false}

	// byPair is for one account from one address.
	byPair = bound{"pair", 5, 2 * time.Second, 15 * time.Minute, 24 * time.Hour, true}

	// byName is for one account from all addresses, and everywhere for all accounts: they slow down
	// somebody who has many addresses. The first attempt of a byPair counts for byName, and does not
	// wait for it: whoever takes each turn at a name could else keep a new device out.
	byName     = bound{"name", 100, time.Second, time.Minute, time.Hour, false}
	everywhere = bound{"all", 1000, time.Second, time.Second, 10 * time.Minute, false}

	// byPassword is for the password of somebody who is signed in.
	byPassword = bound{"password", 5, 2 * time.Second, 15 * time.Minute, 24 * time.Hour, true}
)

// pause returns the pause after an attempt of which n are too many.
func (b bound) pause(n int64) time.Duration {
	if n > 20 {
		return b.longest
	}
	return min(b.first<<max(n-1, 0), b.longest)
}

// limiter counts attempts in Redis, for all gates.
type limiter struct {
	store *store.Store
	names *pseudonym.Names
}

// source is what is counted together by one bound.
type source struct {
	bound
	of string
}

// keys returns the names in Redis of the number of attempts, and of the pause.
func (l *limiter) keys(s source) (count, pause string) {
	name := s.kind + ":" + l.names.Of("attempts\x00"+s.kind, s.of)
	return "gate:attempts:" + name, "gate:pause:" + name
}

// attempt counts an attempt that comes from the sources, and returns 0 if it may be made. Otherwise
// it returns after which time one may be made. An attempt in a pause counts for no source: nobody
// is paused for what somebody else has done to a name. A source of byPair comes before one of byName.
func (l *limiter) attempt(ctx context.Context, sources ...source) (time.Duration, error) {
	var longest time.Duration
	first := false
	for _, s := range sources {
		count, pause := l.keys(s)
		if s.bound == byPair {
			n, err := l.store.Get(ctx, count)
			if err != nil {
				return 0, err
			}
			first = n == ""
		}
		if first && s.bound == byName {
			continue
		}

		left, err := l.store.Left(ctx, pause)
		if err != nil {
			return 0, err
		}
		longest = max(longest, left)
	}

	if longest > 0 {
		return longest, nil
	}

	for _, s := range sources {
		n, wait, err := l.count(ctx, s)
		if err != nil || wait > 0 && !(first && s.bound == byName) {
			return wait, err
		}
		if s.bound == byPair {
			first = n == 1 // of many at once one is the first
		}
	}
	return 0, nil
}

// count counts an attempt before it is made: of many at once, no more are made than one by one. It
// returns how many there were, with this one, and after which time it may be made.
func (l *limiter) count(ctx context.Context, s source) (n int64, wait time.Duration, err error) {
	count, pause := l.keys(s)
	n, err = l.store.Add(ctx, count, 1, s.memory)
	if err != nil || n < s.free {
		return n, 0, err
	}

	// The attempt that begins the pause is the last one before it.
	length := s.pause(n - s.free + 1)
	mine, err := l.store.SetNew(ctx, pause, "", length)
	if err != nil || mine {
		return n, 0, err
	}

	left, err := l.store.Left(ctx, pause)
	if err != nil {
		return n, 0, err
	}

	return n, max(left, time.Millisecond), nil
}

// forget takes back an attempt that was no guess.
func (l *limiter) forget(ctx context.Context, sources ...source) error {
	for _, s := range sources {
		count, pause := l.keys(s)
		var err error
		if s.once {
			_, err = l.store.Delete(ctx, count)
			if err == nil {
				_, err = l.store.Delete(ctx, pause)
			}
		} else {
			_, err = l.store.Add(ctx, count, -1, s.memory)
		}

		if err != nil {
			return err
		}
	}

	return nil
}

// network returns the part of an address that one person has: all of IPv4, and 64 bits of IPv6.
func network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil || ip.Unmap().Is4() {
		return address
	}

	prefix, err := ip.WithZone("").Prefix(64)
	if err != nil {
		return address
	}

	return prefix.String()
}
