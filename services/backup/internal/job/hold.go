package job

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backup/archive"
	"github.com/codexcontinue/codexcontinue/services/backup/internal/depot"
)

// holds is how long a backup is held that nobody releases: a restore that failed is run again before
// that, or never.
const holds = 7 * 24 * time.Hour

// Hold keeps a backup that is being restored, and what it needs, from being dropped until it is
// released, or a week has passed.
func (j *Job) Hold(ctx context.Context, name string) error {
	until := j.Now().Add(holds).UTC().Format(time.RFC3339)
	err := j.Depot.Create(ctx, archive.HoldFile(name), strings.NewReader(until+"\n"))
	if err != nil {
		return fmt.Errorf("hold %s: %w", name, err)
	}
	return nil
}

// Release ends Hold. A backup that is not held stays as it is.
func (j *Job) Release(ctx context.Context, name string) error {
	if err := j.Depot.Remove(ctx, archive.HoldFile(name)); err != nil {
		return fmt.Errorf("release %s: %w", name, err)
	}
	return nil
}

// held returns the names of the backups that are held.
func (j *Job) held(ctx context.Context, files []file) (map[string]bool, error) {
	held := map[string]bool{}
	for _, f := range files {
		if f.kind != archive.Hold {
			continue
		}
		until, err := j.until(ctx, f.name)
		if errors.Is(err, depot.ErrNotFound) {
			continue // it has just been released
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w: `backup release %s` removes it", f.name, err, f.stem)
		}
		held[f.stem] = j.Now().Before(until)
	}
	return held, nil
}

// until returns until when the backup is held that the file is of.
func (j *Job) until(ctx context.Context, name string) (until time.Time, err error) {
	f, err := j.Depot.Open(ctx, name)
	if err != nil {
		return until, err
	}
	defer f.Close()

	b, err := io.ReadAll(io.LimitReader(f, maxSummary))
	if err != nil {
		return until, err
	}
	return time.Parse(time.RFC3339, strings.TrimSpace(string(b)))
}
