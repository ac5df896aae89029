package owndata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/session"
	"github.com/codexcontinue/codexcontinue/services/internal/audit"
)

// Reading is what a person is told of somebody who read what is stored of them: whoever operates
// the stack, with codexctl.
type Reading struct {
	Time   time.Time `json:"time"`
	Reason string    `json:"reason"`
}

// Readings returns the readings of the person with the id, the newest first.
func (d *Data) Readings(ctx context.Context, id string) ([]Reading, error) {
	stored, err := d.store.Readings(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("readings: %w", err)
	}

	list := make([]Reading, len(stored))
	for i, value := range stored {
		if err := json.Unmarshal([]byte(value), &list[i]); err != nil {
			return nil, fmt.Errorf("readings: %w", err)
		}
	}

	return list, nil
}

// Read writes all that is stored of the person to w, as JSON, for who, whom the audit names by By.
// Before anything is read that is recorded with the reason, and the person can see it.
func (d *Data) Read(
	ctx context.Context, w io.Writer, who auditlog.Record, person *session.Session, reason string,
) error {
	if err := auditlog.CheckReason(reason); err != nil {
		return err
	}

	if d.sessions.Audit == nil || who.By == "" {
		return errors.New("nothing is read of somebody else where it is not recorded who reads it")
	}

	who.Action, who.Object = auditlog.Read, person.ID
	who.Detail = map[string]string{"reason": reason}
	act, err := d.sessions.Audit.Begin(ctx, who)
	if err != nil {
		return err
	}

	n, err := d.read(ctx, w, who.By, person, reason)
	act.Record.Bytes = int(n)
	act.End(audit.Result(err))

	return err
}

func (d *Data) read(
	ctx context.Context, w io.Writer, by string, person *session.Session, reason string,
) (int64, error) {
	note, err := json.Marshal(Reading{time.Now().UTC().Truncate(time.Second), reason})
	if err != nil {
		return 0, err
	}

	if err := d.store.AddReading(ctx, person.ID, string(note)); err != nil {
		return 0, fmt.Errorf("note for the person that it is read: %w", err)
	}

	file, err := d.export(ctx, person, by, JSON)
	if err != nil {
		return 0, err
	}
	defer file.Close()

	return io.Copy(w, file)
}
