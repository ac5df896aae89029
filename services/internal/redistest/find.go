package redistest

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// reads are the commands that read a whole value, by its type. DUMP would compress it.
var reads = map[string][]any{
	"string": {"get", ""},
	"hash":   {"hgetall", ""},
	"list":   {"lrange", "", 0, -1},
	"set":    {"smembers", ""},
	"zset":   {"zrange", "", 0, -1},
	"stream": {"xrange", "", "-", "+"},
}

// Find returns the keys that have one of the texts in their names or values.
func Find(t testing.TB, r *redis.Client, texts ...string) (keys []string) {
	t.Helper()
	ctx := context.Background()
	all, err := r.Keys(ctx, "*").Result()
	if err != nil {
		t.Fatal(err)
	}

	for _, key := range all {
		kind, err := r.Type(ctx, key).Result()
		if err != nil {
			t.Fatal(err)
		}
		if kind == "none" {
			continue // it has expired
		}

		command := slices.Clone(reads[kind])
		if command == nil {
			t.Fatalf("%s is a %s, which Find cannot read", key, kind)
		}

		command[1] = key
		value, err := r.Do(ctx, command...).Result()
		if err != nil && err != redis.Nil {
			t.Fatal(err)
		}

		if contains(key+" "+fmt.Sprint(value), texts) {
			keys = append(keys, key)
		}
	}

	slices.Sort(keys)
	return keys
}

// FindFiles returns the files below the directory, such as a server's, that have one of the texts.
func FindFiles(t testing.TB, dir string, texts ...string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}

		b, err := os.ReadFile(path)
		if err == nil && contains(string(b), texts) {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	return files
}

func contains(text string, parts []string) bool {
	return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(text, part) })
}
