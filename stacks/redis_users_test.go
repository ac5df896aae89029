package stacks_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/redis/go-redis/v9"
)

// startStack starts the Redis of the stack.
func (s *passwordServer) startStack(stack stacks.Stack, secret string) {
	s.t.Helper()
	r := stack.Service(stacks.Redis)
	own := strings.NewReplacer("bind * -::*", "bind 127.0.0.1", "port 6379",
		fmt.Sprint("port ", s.port), "dir /data", "dir "+s.dir)
	command := strings.Join(r.Command, " ")
	for _, f := range r.Files {
		s.write(path.Base(f.Path), own.Replace(f.Text(secret)))
		command = strings.ReplaceAll(command, f.Path, filepath.Join(s.dir, path.Base(f.Path)))
	}

	words := strings.Fields(strings.ReplaceAll(command, "/data/", s.dir+"/"))
	s.cmd = exec.Command(words[0], words[1:]...)
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// As in start: programs beside the data are first.
	s.cmd.Env = append(os.Environ(), "PATH="+s.dir+":"+os.Getenv("PATH"))
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}

	deadline := time.Now().Add(time.Minute)
	for ; s.health() != nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("Redis does not answer:\n%s", s.out.String())
		}
	}
}

// as returns a client of the user.
func (s *passwordServer) as(user, password string) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: fmt.Sprintf("127.0.0.1:%d", s.port), Username: user,
		Password: password, MaxRetries: -1, DisableIdentity: true})
	s.t.Cleanup(func() { c.Close() })
	return c
}

// refused reports whether Redis does not let the user do what the words say, itself or by a script.
func refused(c *redis.Client, words ...any) bool {
	err := c.Do(context.Background(), words...).Err()
	return err != nil && (strings.HasPrefix(err.Error(), "NOPERM") ||
		strings.Contains(err.Error(), "The user executing the script can't") || // 7.0
		strings.Contains(err.Error(), "ACL failure in script"))
}

// words are those of a command; an element of quoted text takes the place of each %.
func words(command string, quoted ...any) []any {
	var out []any
	for _, w := range strings.Fields(command) {
		if w == "%" {
			out, quoted = append(out, quoted[0]), quoted[1:]
		} else {
			out = append(out, w)
		}
	}
	return out
}

// TestRedisUsers tries what each service's user may do in the stack's own Redis, and what not.
func TestRedisUsers(t *testing.T) {
	s := newPasswordServer(t)
	s.startStack(load(t, "dev", stacks.Settings{Knowledge: &stacks.KnowledgeSettings{
		Collections: map[string][]string{"handbook": nil},
	}}), "")

	// Each user's own keys, of which the others may neither read nor write any.
	keys := map[string][]string{
		stacks.Backend: {"conversation:c", "conversation:c:messages", "generation:g",
			"generation:g:text", "owner:o:conversations", "owner:o:usage", "running"},
		stacks.ML: {"{queue}:leases", "{queue}:running", "{queue}:waiting", "{queue}:owners",
			"usage:o", "usage:people"},
		stacks.Gate:      {"gate:session:s", "gate:account:a"},
		stacks.Knowledge: {"identity:knowledge:other"},
	}
	read := words("eval % 0", "return redis.call('GET', 'KEY')")
	remove := words("eval % 0", "return redis.call('DEL', 'KEY')")
	in := func(script []any, key string) []any {
		return []any{script[0], strings.Replace(script[1].(string), "KEY", key, 1), script[2]}
	}

	for user := range keys {
		c := s.as(user, "any")
		for owner, names := range keys {
			for _, key := range append(names, "identity:"+owner+":k") {
				public := strings.HasPrefix(key, "identity:")
				// The gate shows what ml counts, and drops what somebody has used who is gone.
				shared := strings.HasPrefix(key, "usage:") && user == stacks.Gate
				writable := owner == user && (!public || user != stacks.ML) || shared
				readable := owner == user || public && user != stacks.Gate || shared
				for what, does := range map[string]struct {
					words []any
					may   bool
				}{
					"reads by a script":    {in(read, key), readable},
					"removes by a script":  {in(remove, key), writable && user != stacks.Knowledge},
					"names to a script":    {words("eval % 1 "+key, "return 1"), writable},
					"sets":                 {words("set " + key + " v px 1"), writable && user != stacks.ML},
					"copies to its own of": {words("copy " + key + " " + keys[user][0]), false},
				} {
					if refused(c, does.words...) == does.may {
						t.Errorf("%s %s %s: refused is %v", user, what, key, does.may)
					}
				}
			}
		}

		if err := c.Do(t.Context(), "debug", "sleep", 0).Err(); err == nil {
			t.Errorf("%s may DEBUG", user) // which Redis refuses before it looks at the user
		}

		for _, command := range []string{
			"acl list", "acl whoami", "acl setuser default on", "bgsave",
			"client list", "client kill 127.0.0.1:1", "cluster info", "command", "config get *",
			"config set dir /tmp", "dbsize", "dump running",
			"failover", "flushall", "flushdb", "function flush", "function list", "keys *",
			"lastsave", "latency history fork", "memory usage running", "migrate 127.0.0.1 1 a 0 1",
			"module list", "monitor", "move running 1", "object freq running", "psync ? -1",
			"publish channel text", "randomkey", "rename running other", "replicaof no one",
			"restore running 0 x", "role", "save", "scan 0", "script flush", "script kill",
			"select 1", "shutdown nosave", "slaveof no one", "slowlog get",
			"sort gate:session:s", "sort running by gate:*",
			"sort_ro running get gate:*", "spublish channel text", "subscribe channel",
			"swapdb 0 1", "psubscribe *", "sync",
		} {
			if !refused(c, words(command)...) {
				t.Errorf("%s may %q", user, command)
			}

			script := "return redis.call('" + strings.Join(strings.Fields(command), "', '") + "')"
			if err := c.Do(t.Context(), "eval", script, 0).Err(); err == nil {
				t.Errorf("%s may %q by a script", user, command)
			}
		}
	}

	if refused(s.as(stacks.Backend, "any"), "info") || !refused(s.as(stacks.ML, "any"), "info") {
		t.Error("the backend may not ask for INFO, or ml may")
	}

	for user := range keys {
		if may := !refused(s.as(user, "any"), "bgrewriteaof"); may != (user == stacks.Gate) {
			t.Errorf("%s may have the append-only file written anew: %t", user, may)
		}
	}

	// A developer's redis-cli in dev says no user.
	if err := s.as("", "").FlushAll(t.Context()).Err(); err != nil {
		t.Errorf("dev's default user: %v", err)
	}
}

// TestRedisUsersUse holds that no user may what its service's store does not do.
func TestRedisUsersUse(t *testing.T) {
	for service, dirs := range map[string][]string{
		stacks.Backend: {"../services/backend/internal/store", "../services/internal/audit"},
		stacks.Gate: {"../services/gate/internal/store", "../services/internal/audit",
			"../services/internal/redisclient"},
		stacks.ML: {"../services/ml/internal"},
		stacks.Backup: {"../services/backup", "../services/internal/audit",
			"../services/internal/redisclient"},
		stacks.Knowledge: {"../services/knowledge", "../services/internal/audit",
			"../services/internal/redisclient"},
	} {
		var source strings.Builder
		for _, dir := range dirs {
			err := filepath.WalkDir(dir, func(file string, d os.DirEntry, err error) error {
				if err == nil && !strings.HasSuffix(file, "_test.go") &&
					(strings.HasSuffix(file, ".go") || strings.HasSuffix(file, ".lua")) {
					var text []byte
					text, err = os.ReadFile(file)
					source.Write(text)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}

		// A selector's rules are in parentheses.
		rules := strings.NewReplacer("(", "", ")", "").Replace(stacks.RedisACL(service))
		for _, rule := range strings.Fields(rules) {
			command, ok := strings.CutPrefix(rule, "+")
			// These are for the keys identity:*, strings that any service may have.
			if !ok || slices.Contains([]string{"get", "mget", "set"}, command) {
				continue
			}

			sent := regexp.MustCompile(`(?i)(redis\.call\('|"|\.)` + command + `('|"|\(|With|GT\()`)
			script := strings.HasPrefix(command, "eval") &&
				strings.Contains(source.String(), "redis.NewScript(")
			// go-redis says MULTI and EXEC itself.
			script = script || command == "multi" && strings.Contains(source.String(), ".TxPipelined(")
			if !script && !sent.MatchString(source.String()) {
				t.Errorf("%s may %s, and does not", service, command)
			}
		}
	}
}

// redisPasswords returns the passwords of the stack's services, by their names.
func redisPasswords(stack stacks.Stack, secret string) map[string]string {
	passwords := map[string]string{}
	for _, svc := range stack.Services {
		if c, ok := svc.Contract.(contract.RedisUser); ok {
			passwords[svc.Name] = svc.Files[slices.IndexFunc(svc.Files, func(f stacks.File) bool {
				return f.Path == c.RedisVariables().RedisPasswordFile
			})].Text(secret)
		}
	}
	return passwords
}

// TestRedisPasswords holds that each service of prod signs in with its own password, as itself, and
// that no other opens anything: not the config's either.
func TestRedisPasswords(t *testing.T) {
	const secret = "correct-horse-battery-staple"
	stack := load(t, "prod", withPassword())
	s := newPasswordServer(t)
	s.startStack(stack, secret)

	passwords := redisPasswords(stack, secret+"\n")
	passwords["the config"], passwords["nobody"] = secret, ""

	if len(slices.Compact(slices.Sorted(maps.Values(passwords)))) != 5 {
		t.Errorf("some passwords are the same")
	}

	for _, user := range []string{"", "default", stacks.Backend, stacks.ML, stacks.Gate, "rotation"} {
		for of, password := range passwords {
			err := s.as(user, password).Do(t.Context(), "get", "identity:gate:x").Err()
			if opens := err == redis.Nil; opens != (user == of) {
				t.Errorf("the password of %s opens to %q: %v", of, user, opens)
			}
		}
	}
}

// TestRedisUsersDocumented holds that the docs tell the owner of another Redis what services need.
func TestRedisUsersDocumented(t *testing.T) {
	docs, err := os.ReadFile("../docs/scaling.md")
	if err != nil {
		t.Fatal(err)
	}

	for _, service := range []string{stacks.Gate, stacks.Backend, stacks.ML, stacks.Knowledge} {
		line := "\nuser " + service + " on >PASSWORD " + stacks.RedisACL(service) + "\n"
		if !strings.Contains(string(docs), line) {
			t.Errorf("docs/scaling.md lacks the line\n%s", line)
		}
	}
}
