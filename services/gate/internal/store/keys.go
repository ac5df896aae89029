package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// A program's key is stored under its id, and the ids of a person's keys in a set. Apart from that
// stands the minute in which it was last used, which is written by whoever uses it: a key that was
// dropped at that moment does not come back.
func keyName(id string) string     { return "gate:key:" + id }
func keyUse(id string) string      { return "gate:key-use:" + id }
func keysName(owner string) string { return "gate:keys:" + owner }

// addKey adds an id to a set that has fewer members than may be. Done twice it is done once.
var addKey = redis.NewScript(`
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 1 then return 1 end
if redis.call('SCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
return redis.call('SADD', KEYS[1], ARGV[1])`)

// PutKey stores a key of the owner's. It reports false if the owner has so many already.
func (s *Store) PutKey(ctx context.Context, owner, id, key string, most int) (ok bool, err error) {
	added, err := addKey.Run(ctx, s.rdb, []string{keysName(owner)}, id, most).Int()
	if err != nil || added == 0 {
		return false, err
	}
	return true, s.rdb.Set(ctx, keyName(id), key, 0).Err()
}

// Key returns a key, and the Unix minute in which it was last used, 0 if that is not
// known; "" if there is none.
func (s *Store) Key(ctx context.Context, id string) (key string, used int64, err error) {
	p := s.rdb.Pipeline()
	k, u := p.Get(ctx, keyName(id)), p.Get(ctx, keyUse(id))
	_, _ = p.Exec(ctx) // each command has its own error
	if err := k.Err(); err != nil && !errors.Is(err, redis.Nil) {
		return "", 0, err
	}

	used, _ = strconv.ParseInt(u.Val(), 10, 64) // "" if it never was, or cannot be read
	return k.Val(), used, nil
}

// UseKey stores the Unix minute in which a key was last used.
func (s *Store) UseKey(ctx context.Context, id string, minute int64) error {
	return s.rdb.Set(ctx, keyUse(id), minute, 0).Err()
}

// KeysOf returns the ids of the owner's keys.
func (s *Store) KeysOf(ctx context.Context, owner string) ([]string, error) {
	return s.rdb.SMembers(ctx, keysName(owner)).Result()
}

// DropKey removes a key of the owner's. From then on there is none.
func (s *Store) DropKey(ctx context.Context, owner, id string) error {
	mine, err := s.rdb.SIsMember(ctx, keysName(owner), id).Result()
	if err != nil || !mine {
		return err
	}

	for _, name := range []string{keyName(id), keyUse(id)} { // apart, as a Cluster's nodes have them
		if err := s.rdb.Del(ctx, name).Err(); err != nil {
			return err
		}
	}

	return s.rdb.SRem(ctx, keysName(owner), id).Err()
}

// groupsName is the name of the groups that a person's keys follow.
func groupsName(owner string) string { return "gate:groups:" + owner }

// groupsKept is how long they stay after the person's last sign-in, or a key's last use. A key
// counts as one of a person without groups from then on.
const groupsKept = 400 * 24 * time.Hour

// PutGroups stores the groups of which the owner is now, which may be none.
func (s *Store) PutGroups(ctx context.Context, owner string, groups []string) error {
	value, err := json.Marshal(groups)
	if err != nil {
		return err
	}
	return s.rdb.Set(ctx, groupsName(owner), value, groupsKept).Err()
}

// Groups returns the groups of which the owner is.
func (s *Store) Groups(ctx context.Context, owner string) (groups []string, err error) {
	value, err := s.Touch(ctx, groupsName(owner), groupsKept)
	if err != nil || value == "" {
		return nil, err
	}

	if err := json.Unmarshal([]byte(value), &groups); err != nil {
		return nil, fmt.Errorf("the stored groups: %w", err)
	}
	return groups, nil
}

// HasGroups reports whether it is known of which groups the owner is, which may be none.
func (s *Store) HasGroups(ctx context.Context, owner string) (bool, error) {
	n, err := s.rdb.Exists(ctx, groupsName(owner)).Result()
	return n > 0, err
}

// DropGroups forgets the groups of the owner.
func (s *Store) DropGroups(ctx context.Context, owner string) error {
	return s.rdb.Del(ctx, groupsName(owner)).Err()
}
