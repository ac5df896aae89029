package job

import (
	"context"
	"fmt"
	"time"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/backup/archive"
)

// Audit reads the records of who did what; see services/internal/audit.
type Audit interface {
	// Days returns the days that have records, the first first.
	Days(ctx context.Context) ([]string, error)

	// Page returns the lines of a day from a place on, auditlog.PageSize at most.
	Page(ctx context.Context, day string, from int64) ([]string, error)
}

// Overlap is how far the clocks of the services may be apart. For longer than that nothing new is
// stored for somebody who was erased, so an erasure that came that long before a backup may be done
// again after its restore.
const Overlap = 2 * time.Minute

// again is how long before the last file of erasures a new process begins to read. What it finds
// twice is kept twice, and done once.
const again = time.Hour

// kept are the acts that a restore has done again, or names as not done again.
var kept = map[auditlog.Action]bool{
	auditlog.Erase: true, auditlog.UserRemoved: true, auditlog.KeyRevoked: true,
	auditlog.Delete: true, auditlog.Withdrawal: true, auditlog.Move: true,
	auditlog.DocumentRemoved: true, auditlog.Password: true, auditlog.UserReset: true,
	auditlog.UserAdmin: true, auditlog.UserMember: true, auditlog.UserGroups: true,
}

// journal is how far the records were read.
type journal struct {
	begun bool
	day   string
	at    int64           // the place in the day
	done  map[string]bool // the acts that were written, by their ids
}

// Erasures writes down what was erased since the last time, beside the backups: the records of it
// are lost with the stack. It does so while a backup is made, too.
func (j *Job) Erasures(ctx context.Context) error {
	if j.Audit == nil {
		return nil
	}
	j.erasing.Lock()
	defer j.erasing.Unlock()

	found, next, err := j.newErasures(ctx)
	if err != nil {
		return fmt.Errorf("read who erased what: %w", err)
	}

	if len(found) > 0 {
		if err := j.seal(ctx, archive.ErasuresFile(j.Now()), found); err != nil {
			return fmt.Errorf("keep who erased what: %w", err)
		}
		j.Log.InfoContext(ctx, "erasures", "count", len(found))
	}

	for _, e := range found {
		next.done[e.ID] = true
	}
	j.seen = next
	return nil
}

// newErasures returns what was erased since the last time, and how far it has read.
func (j *Job) newErasures(ctx context.Context) (found []auditlog.Record, next journal, err error) {
	next, since, err := j.from(ctx)
	if err != nil {
		return nil, next, err
	}

	days, err := j.Audit.Days(ctx)
	if err != nil {
		return nil, next, err
	}

	for _, day := range days {
		if day < next.day {
			continue
		}
		if day > next.day {
			next.day, next.at = day, 0
		}

		for {
			lines, err := j.Audit.Page(ctx, day, next.at)
			if err != nil {
				return nil, next, err
			}

			for _, line := range lines {
				r, err := auditlog.Parse(line)
				if err != nil || r.Outcome != auditlog.Done || !kept[r.Action] ||
					r.Time.Before(since) || next.done[r.ID] {
					continue // a line that is none is found by codexctl audit --verify
				}
				found = append(found, r)
			}

			next.at += int64(len(lines))
			if len(lines) < auditlog.PageSize {
				break
			}
		}
	}

	return found, next, nil
}

// from returns where to go on with the records, and the time from which on they are new. A day that
// is shorter than it was is that of another Redis, or of a backup.
func (j *Job) from(ctx context.Context) (at journal, since time.Time, err error) {
	if j.seen.begun {
		lines, err := j.Audit.Page(ctx, j.seen.day, max(0, j.seen.at-1))
		if err != nil || j.seen.at == 0 || len(lines) > 0 {
			return j.seen, since, err
		}
	}

	files, err := j.files(ctx)
	if err != nil {
		return at, since, err
	}

	at = journal{begun: true, done: map[string]bool{}}
	for _, f := range files { // the last one first
		if f.kind == archive.Gone && !j.future(f) {
			since = f.at.Add(-again)
			at.day = since.Format(time.DateOnly)
			break
		}
	}
	return at, since, nil
}
