package store

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/redisclient"
)

// Watch asks Redis again and again whether it answers, until ctx ends, and logs what changes: once
// that Redis fails and why, once each other reason, once that it is back.
func (s *Store) Watch(ctx context.Context, log *slog.Logger, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for last := "unknown"; ; {
		check, cancel := context.WithTimeout(ctx, redisclient.IOTimeout)
		err := s.Check(check)
		if err == nil {
			err = s.Full(check)
		}

		cancel()
		if ctx.Err() != nil {
			return
		}

		now := ""
		if err != nil {
			now = err.Error()
		}

		switch {
		case now == last:
		case errors.Is(err, ErrDiskFull):
			log.ErrorContext(ctx, "Redis cannot write to its disk: nothing is changed until it can",
				"error", err)
		case errors.Is(err, ErrStorageFull):
			log.ErrorContext(ctx,
				"Redis has reached its maxmemory: nothing new is stored until there is room",
				"error", err)
		case err != nil:
			log.ErrorContext(ctx,
				"Redis does not work: conversations and answers are unavailable until it does",
				"error", err)
		default:
			log.InfoContext(ctx, "Redis answers")
		}

		last = now
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
