package store

import (
	"embed"

	"github.com/redis/go-redis/v9"
)

//go:embed lua/*.lua
var lua embed.FS

// scripts are the changes, each atomic in Redis. What they take and return stands in their files.
type scripts struct {
	create, rename, del, begin, withdraw, append, queue, renew, end *redis.Script
}

func newScripts() (*scripts, error) {
	prelude, err := lua.ReadFile("lua/prelude.lua")
	if err != nil {
		return nil, err
	}
	s := &scripts{}
	for name, p := range map[string]**redis.Script{
		"create": &s.create, "rename": &s.rename, "delete": &s.del, "begin": &s.begin, "withdraw": &s.withdraw,
		"append": &s.append, "queue": &s.queue, "renew": &s.renew, "end": &s.end,
	} {
		src, err := lua.ReadFile("lua/" + name + ".lua")
		if err != nil {
			return nil, err
		}
		*p = redis.NewScript(string(prelude) + string(src))
	}
	return s, nil
}
