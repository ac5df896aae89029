package stacks_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/peers"
	goredis "github.com/redis/go-redis/v9"
)

// TestRedisConfig starts the real Redis on prod's files: it asks for the password, keeps the data over a restart, and
// the health check tells working, loading and gone apart without knowing the password.
func TestRedisConfig(t *testing.T) {
	program := peers.Find(t, "redis", "redis-server")
	cli := peers.Find(t, "redis", "redis-cli")
	const password = `p"a\ss 'w' #ö${secret}` // what quoting would break on
	stack := load(t, "prod", withPassword())
	service := stack.Service(stacks.Redis)
	dir, port := t.TempDir(), freePort(t)
	config := filepath.Join(dir, "redis.conf")
	for _, f := range service.Files {
		text := f.Text(password + "\n")
		if strings.Contains(text, password) {
			t.Errorf("%s holds the password", f.Path)
		}
		if f.Path == "/etc/redis/redis.conf" {
			text = replaced(t, text, "dir /data", "dir "+dir, "/run/secrets/", dir+"/", "port 6379", "port "+port, "bind * -::*", "bind 127.0.0.1")
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(f.Path)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	health := func() (string, error) {
		command := service.Health.Command
		if command[0] != "redis-cli" {
			t.Fatalf("health is %q", command)
		}
		out, err := exec.Command(cli, append([]string{"-p", port}, command[1:]...)...).CombinedOutput()
		return string(out), err
	}
	healthy := func() bool { _, err := health(); return err == nil }

	server := start(t, program, config)
	server.await("health", healthy)
	client := goredis.NewClient(&goredis.Options{Addr: "127.0.0.1:" + port, Password: password})
	defer client.Close()
	ctx := context.Background()
	pipe := client.Pipeline()
	for i := range 8192 {
		pipe.Set(ctx, fmt.Sprint("key", i), i, 0)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	if got, err := client.ConfigGet(ctx, "maxmemory*").Result(); err != nil || got["maxmemory"] != "402653184" || got["maxmemory-policy"] != "noeviction" {
		t.Errorf("memory is bounded by %v, %v", got, err)
	}
	for name, wrong := range map[string]*goredis.Options{
		"no password":      {},
		"wrong password":   {Password: "guess"},
		"the health check": {Username: "health", Password: "any"},
	} {
		wrong.Addr, wrong.MaxRetries = client.Options().Addr, -1
		c := goredis.NewClient(wrong)
		if err := c.Get(ctx, "key1").Err(); err == nil || err == goredis.Nil {
			t.Errorf("%s reads the data: %v", name, err)
		}
		c.Close()
	}
	server.stop(service.StopGrace)
	if out, err := health(); err == nil {
		t.Errorf("healthy without a server: %s", out)
	}

	// Slow enough to be seen while it loads: 200 µs a key, and it answers after every 1024 of them.
	server = start(t, program, config, "--key-load-delay", "200")
	loading := false
	server.await("health after the restart", func() bool {
		out, err := health()
		loading = loading || err != nil && strings.Contains(out, "LOADING")
		return err == nil
	})
	if !loading {
		t.Error("the health check never said that Redis is loading")
	}
	if n, err := client.DBSize(ctx).Result(); n != 8192 {
		t.Errorf("%d keys after the restart, %v", n, err)
	}
}
