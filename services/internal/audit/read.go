package audit

import (
	"context"
	"fmt"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/internal/redisclient"
	"github.com/redis/go-redis/v9"
)

// Reader reads the records.
type Reader struct {
	rdb     redis.UniversalClient
	address redisclient.Address
}

// NewReader returns a reader of the records in the Redis.
func NewReader(a redisclient.Address) (*Reader, error) {
	o, err := a.Options()
	if err != nil {
		return nil, err
	}
	return &Reader{redis.NewUniversalClient(o), a}, nil
}

// Close ends the connections.
func (r *Reader) Close() { _ = r.rdb.Close() }

// Days returns the days that have records, the first first, in the form of time.DateOnly.
func (r *Reader) Days(ctx context.Context) ([]string, error) {
	days, err := r.rdb.LRange(ctx, daysKey, 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.address, err)
	}
	return days, nil
}

// Page returns the lines of a day from a place on, auditlog.PageSize at most.
func (r *Reader) Page(ctx context.Context, day string, from int64) ([]string, error) {
	lines, err := r.rdb.LRange(ctx, prefix+day, from, from+auditlog.PageSize-1).Result()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.address, err)
	}
	return lines, nil
}

// Each calls f with each line since the day, or with all if it is empty, until f fails.
func (r *Reader) Each(ctx context.Context, since string, f func(line string) error) error {
	days, err := r.Days(ctx)
	if err != nil {
		return err
	}

	for _, day := range days {
		if day < since {
			continue
		}

		for from := int64(0); ; from += auditlog.PageSize {
			lines, err := r.Page(ctx, day, from)
			if err != nil {
				return err
			}

			for _, line := range lines {
				if err := f(line); err != nil {
					return err
				}
			}

			if len(lines) < auditlog.PageSize {
				break
			}
		}
	}

	return nil
}
