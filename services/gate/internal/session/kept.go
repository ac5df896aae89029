package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// key returns the name in Redis of the session with the Ref: the hash of its token.
func key(ref string) string { return "gate:session:" + ref }

// byPerson and bySID return the names of the indexes of a person's sessions, and of those that an
// issuer knows by a name of its own.
func byPerson(id string) string { return "gate:sessions:" + id }

func (m *Manager) bySID(issuer, sid string) string {
	return "gate:sids:" + m.names.Of("sid\x00"+issuer, sid)
}

// kept is the scs.CtxStore of the manager. scs gives it hashes of tokens.
type kept struct{ m *Manager }

type backgroundKey struct{}

// background returns a context in which finding a session does not begin its idle time anew.
func background(ctx context.Context) context.Context {
	return context.WithValue(ctx, backgroundKey{}, true)
}

// indexes returns the names of those that the session is in.
func (m *Manager) indexes(s *Session) []string {
	if s.SID == "" {
		return []string{byPerson(s.ID)}
	}
	return []string{byPerson(s.ID), m.bySID(s.Issuer, s.SID)}
}

// FindCtx implements scs.CtxStore.
func (k *kept) FindCtx(ctx context.Context, ref string) ([]byte, bool, error) {
	find := k.m.store.Get
	if ctx.Value(backgroundKey{}) == nil {
		find = func(ctx context.Context, key string) (string, error) {
			return k.m.store.Touch(ctx, key, k.m.idle)
		}
	}

	value, err := find(ctx, key(ref))
	if err != nil || value == "" {
		return nil, false, err
	}

	s, err := k.m.read(ref, value)
	if err != nil || !time.Now().Before(s.Deadline) {
		return nil, false, err
	}

	b, err := json.Marshal(s)
	return b, err == nil, err
}

// CommitCtx implements scs.CtxStore. It is called for a new session only: to write one again could
// bring back one that has just been ended.
func (k *kept) CommitCtx(ctx context.Context, ref string, b []byte, expiry time.Time) error {
	s, err := k.m.read(ref, string(b))
	if err != nil {
		return err
	}

	// First the indexes: a session that they lack could not be ended.
	indexes := k.m.indexes(s)
	for _, index := range indexes {
		if err := k.m.store.AddToIndex(ctx, index, ref, s.Deadline); err != nil {
			return err
		}
	}

	if err := k.m.store.Set(ctx, key(ref), string(b), time.Until(expiry)); err != nil {
		return err
	}

	if err := k.begin(ctx, s, indexes); err != nil {
		_, forget := k.m.store.Delete(ctx, key(ref))
		return errors.Join(err, forget)
	}

	return nil
}

// begin has the keys of the person's programs follow the groups of the stored session, which has
// not been ended meanwhile.
func (k *kept) begin(ctx context.Context, s *Session, indexes []string) error {
	if err := k.in(ctx, s.Ref, indexes); err != nil {
		return err
	}
	if err := k.m.store.PutGroups(ctx, s.ID, s.Groups); err != nil {
		return err
	}

	// Who took the groups away, and then ended the sessions, may have done so in between.
	if err := k.in(ctx, s.Ref, indexes); err != nil {
		return errors.Join(err, k.m.store.DropGroups(ctx, s.ID))
	}

	return nil
}

// in returns an error unless the session with the Ref is in the indexes. Who has ended the person's
// sessions while it was stored took it from there, and maybe saw no more.
func (k *kept) in(ctx context.Context, ref string, indexes []string) error {
	for _, index := range indexes {
		in, err := k.m.store.InIndex(ctx, index, ref)
		if err != nil {
			return err
		}
		if !in {
			return errEnded
		}
	}

	return nil
}

// errEnded reports a session that has been ended before it began.
var errEnded = errors.New("the sessions of the person have been ended at this moment")

// DeleteCtx implements scs.CtxStore.
func (k *kept) DeleteCtx(ctx context.Context, ref string) error {
	value, err := k.m.store.Get(ctx, key(ref))
	if err != nil || value == "" {
		return err
	}

	s, err := k.m.read(ref, value)
	if err != nil {
		return err
	}

	return k.m.remove(ctx, s)
}

// errNoContext answers what scs calls only where a store takes no context.
var errNoContext = errors.New("session: called without a context")

// Find implements scs.Store.
func (k *kept) Find(string) ([]byte, bool, error) { return nil, false, errNoContext }

// Commit implements scs.Store.
func (k *kept) Commit(string, []byte, time.Time) error { return errNoContext }

// Delete implements scs.Store.
func (k *kept) Delete(string) error { return errNoContext }

// read returns the session that is stored with the Ref. One that began when sessions had a longer life
// has no more than they have now.
func (m *Manager) read(ref, value string) (*Session, error) {
	s := &Session{}
	if err := json.Unmarshal([]byte(value), s); err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}

	s.Ref = ref
	if end := s.Since.Add(m.scs.Lifetime); end.Before(s.Deadline) {
		s.Deadline = end
	}
	return s, nil
}

// remove ends the session. What is left of it in the indexes, if Redis goes away in between, leaves
// them in time.
func (m *Manager) remove(ctx context.Context, s *Session) error {
	if _, err := m.store.Delete(ctx, key(s.Ref)); err != nil {
		return fmt.Errorf("session: %w", err)
	}

	m.close(s.Ref)
	for _, index := range m.indexes(s) {
		if err := m.store.RemoveFromIndex(ctx, index, s.Ref); err != nil {
			return fmt.Errorf("session: %w", err)
		}
	}

	return nil
}

// removeUnborn ends a session of the index that is about to begin, if it does not end by itself:
// CommitCtx gives up what is no more in the index after it has stored it.
func (m *Manager) removeUnborn(ctx context.Context, index, ref string) error {
	if err := m.store.RemoveFromIndex(ctx, index, ref); err != nil {
		return fmt.Errorf("session: %w", err)
	}
	if _, err := m.store.Delete(ctx, key(ref)); err != nil {
		return fmt.Errorf("session: %w", err)
	}

	m.close(ref)
	return nil
}

// get returns the session with the Ref, nil if there is none, or none yet.
func (m *Manager) get(ctx context.Context, ref string) (*Session, error) {
	value, err := m.store.Get(ctx, key(ref))
	if err != nil {
		return nil, fmt.Errorf("sessions: %w", err)
	}
	if value == "" {
		return nil, nil
	}

	return m.read(ref, value)
}

// list returns the sessions in the index, those first that were used last.
func (m *Manager) list(ctx context.Context, index string) ([]Shown, error) {
	refs, err := m.store.Index(ctx, index)
	if err != nil {
		return nil, fmt.Errorf("sessions: %w", err)
	}

	var all []Shown
	for _, ref := range refs {
		s, err := m.get(ctx, ref)
		if err != nil {
			return nil, err
		}
		if s == nil {
			continue // it has ended
		}

		left, err := m.store.Left(ctx, key(ref))
		if err != nil {
			return nil, fmt.Errorf("sessions: %w", err)
		}
		if now := time.Now(); now.Before(s.Deadline) {
			seen := now.Add(min(left-m.idle, 0)) // more is left of a longer time than there is now
			all = append(all, Shown{Session: s, Seen: seen})
		}
	}

	slices.SortFunc(all, func(a, b Shown) int { return b.Seen.Compare(a.Seen) })
	return all, nil
}

// Names returns the names of those of the people who are signed in, as they signed in last, by
// their ids. A provider keeps the people, and the gate only sessions.
func (m *Manager) Names(ctx context.Context, ids []string) (map[string]string, error) {
	indexes := make([]string, len(ids))
	for i, id := range ids {
		indexes[i] = byPerson(id)
	}

	refs, err := m.store.Indexes(ctx, indexes)
	if err != nil {
		return nil, fmt.Errorf("sessions: %w", err)
	}

	keys := make([]string, len(refs))
	for i, ref := range refs {
		keys[i] = key(ref)
	}

	values, err := m.store.All(ctx, keys)
	if err != nil {
		return nil, fmt.Errorf("sessions: %w", err)
	}

	names, since := map[string]string{}, map[string]time.Time{}
	for i, value := range values {
		if value == "" {
			continue // it has ended
		}

		s, err := m.read(refs[i], value)
		if err != nil {
			return nil, err
		}
		if s.Since.After(since[s.ID]) {
			names[s.ID], since[s.ID] = s.Name, s.Since
		}
	}

	return names, nil
}
