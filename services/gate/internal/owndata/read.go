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
	"github.com/codexcontinue/codexcontinue/services/gate/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/audit"
)

// Reading is what a person is told of somebody who read what is stored of them: whoever operates
// the stack, with codexctl.
type Reading struct {
	Time   time.Time `json:"time"`
	Reason string    `json:"reason"`
}

// Readings returns the readings of the person with the id, the newest first, and none that is older
// than they are kept.
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
		if time.Since(list[i].Time) > store.ReadingsLife {
			return list[:i], nil // the others are older still
		}
	}

	return list, nil
}

// ErrNothing reports that nothing is stored of a person who was to be read.
var ErrNothing = errors.New("nothing is stored of this person")

// CheckReader returns an error unless what is stored of somebody can be read for who is called by,
// for the reason.
func (d *Data) CheckReader(by, reason string) error {
	if d.sessions.Audit == nil || by == "" {
		return errors.New("nothing is read of somebody else where it is not recorded who reads it")
	}
	return auditlog.CheckReason(reason)
}

// Read writes all that is stored of the person with the id to w, as JSON, for who, whom the audit
// names by By. Before anything is looked up that is recorded with the reason, and the person can
// see it. find returns what is known of the person, or ErrNothing.
func (d *Data) Read(
	ctx context.Context, w io.Writer, who auditlog.Record, id, reason string,
	find func(context.Context) (*session.Session, error),
) error {
	if err := d.CheckReader(who.By, reason); err != nil {
		return err
	}

	who.Action, who.Object = auditlog.Read, id
	who.Detail = map[string]string{"reason": reason}
	act, err := d.sessions.Audit.Begin(ctx, who)
	if err != nil {
		return err
	}

	person, err := find(ctx)
	if err == nil {
		var n int64
		n, err = d.read(ctx, w, who.By, person, reason)
		act.Record.Bytes = int(n)
	}

	outcome := audit.Result(err)
	if errors.Is(err, ErrNothing) {
		outcome = auditlog.Refused
	}

	act.End(outcome)
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
