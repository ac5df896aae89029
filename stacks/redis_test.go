package stacks_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/peers"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
)

// passwordServer is a Redis that start.sh starts, again and again on the same data.
type passwordServer struct {
	t     *testing.T
	dir   string
	port  int
	users []string
	out   bytes.Buffer
	cmd   *exec.Cmd
	now   int // what has passed on its own clock, in seconds
}

func newPasswordServer(t *testing.T) *passwordServer {
	t.Helper()
	peers.Find(t, "redis", "redis-server")
	// The kernel gives this port to nobody else between two starts.
	port, err := strconv.Atoi(peers.FreePort(t, "127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}

	s := &passwordServer{
		t: t, dir: t.TempDir(), port: port, users: []string{"backend", "ml"},
	}
	s.write("redis.conf",
		fmt.Sprintf("bind 127.0.0.1\nport %d\ndir %s\nsave \"\"\n"+
			"user health on nopass -@all +ping\n",
			s.port, s.dir))

	t.Cleanup(s.stop)
	return s
}

func (s *passwordServer) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// start starts Redis with the password; the one before it is taken for so many seconds.
func (s *passwordServer) start(password string, seconds int) {
	s.t.Helper()
	hash := sha256.Sum256([]byte(password))
	conf := "user default reset ~* &* +@all\n"
	for _, user := range s.users {
		conf += "user " + user + " reset on #" + hex.EncodeToString(hash[:]) + " +ping +acl|users\n"
	}
	s.write("auth.conf", conf)

	file := func(name string) string { return filepath.Join(s.dir, name) }
	s.cmd = exec.Command("sh", "redis/start.sh", file("auth.conf"), file("passwords"),
		fmt.Sprint(seconds), file("redis.conf"))
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// The redis-cli beside the data is first: it knows the test's port.
	s.cmd.Env = append(os.Environ(), "PATH="+s.dir+":"+os.Getenv("PATH"))
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}

	for deadline := time.Now().Add(time.Minute); !s.takes("health", "any"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("Redis does not answer:\n%s", s.out.String())
		}
	}
}

func (s *passwordServer) stop() {
	if s.cmd == nil {
		return
	}

	_ = s.cmd.Process.Signal(os.Interrupt)
	_ = s.cmd.Wait()
	// What else runs in a container ends with its first process.
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
	s.cmd = nil
}

// takes reports whether the user may come in with the password.
func (s *passwordServer) takes(user, password string) bool {
	c := redis.NewClient(&redis.Options{
		Addr:            fmt.Sprintf("127.0.0.1:%d", s.port),
		Username:        user,
		Password:        password,
		MaxRetries:      -1,
		DisableIdentity: true,
		DialTimeout:     time.Minute, // no answer is not taken for a no
		ReadTimeout:     time.Minute,
	})
	defer c.Close()
	return c.Ping(context.Background()).Err() == nil
}

// opensTo returns the users that the password lets in, of those that there may be.
func (s *passwordServer) opensTo(password string) string {
	var users []string
	for _, user := range []string{"default", "backend", "ml", "rotation"} {
		if s.takes(user, password) {
			users = append(users, user)
		}
	}
	return strings.Join(users, " ")
}

// holds fails the test unless each password lets in the users.
func (s *passwordServer) holds(when string, want map[string]string) {
	s.t.Helper()
	got := map[string]string{}
	for password := range want {
		got[password] = s.opensTo(password)
	}
	if d := cmp.Diff(want, got); d != "" {
		s.t.Fatalf("%s, who gets in (-want +got):\n%s%s", when, d, s.out.String())
	}
}

// rotates reports whether the user who takes former passwords away is there.
func (s *passwordServer) rotates() bool {
	c := redis.NewClient(&redis.Options{Addr: fmt.Sprintf("127.0.0.1:%d", s.port),
		Username: "backend", Password: "first", DisableIdentity: true})
	defer c.Close()
	list, err := c.Do(context.Background(), "acl", "users").StringSlice()
	if err != nil {
		s.t.Fatal(err)
	}
	return slices.Contains(list, "rotation")
}

// ownCLI makes the script's redis-cli, which talks to the stack's port, talk to the test's.
func (s *passwordServer) ownCLI() {
	s.t.Helper()
	cli := peers.Find(s.t, "redis", "redis-cli")
	s.write("redis-cli", fmt.Sprintf("#!/bin/sh\nexec %s -p %d \"$@\"\n", cli, s.port))
	if err := os.Chmod(filepath.Join(s.dir, "redis-cli"), 0o700); err != nil {
		s.t.Fatal(err)
	}
}

// clockBegin is when the clocks of passwordServers begin, in Unix time.
const clockBegin = 1_800_000_000

// ownClock gives the script a clock that only pass changes: a busy machine may need longer for what a
// test does before the time is over than that time is. A sleep ends when so much has passed in all, as
// it may begin after that.
func (s *passwordServer) ownClock() {
	s.t.Helper()
	s.pass(0)
	clock := filepath.Join(s.dir, "clock")
	for name, script := range map[string]string{
		"date": "exec cat " + clock,
		"sleep": fmt.Sprintf("until [ $(cat %s) -ge $((%d + $1)) ]; do /bin/sleep 0.1; done; "+
			"exec /bin/sleep 0.1", clock, clockBegin),
	} {
		s.write(name, "#!/bin/sh\n"+script+"\n")
		if err := os.Chmod(filepath.Join(s.dir, name), 0o700); err != nil {
			s.t.Fatal(err)
		}
	}
}

// pass lets so many seconds pass on the script's clock.
func (s *passwordServer) pass(seconds int) {
	s.t.Helper()
	s.now += seconds
	s.write("clock.new", fmt.Sprint(clockBegin+s.now))
	if err := os.Rename(filepath.Join(s.dir, "clock.new"), filepath.Join(s.dir, "clock")); err != nil {
		s.t.Fatal(err)
	}
}

// until waits until the password lets in nobody.
func (s *passwordServer) until(password string) {
	s.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for ; s.opensTo(password) != ""; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("Redis still takes the former password:\n%s", s.out.String())
		}
	}
}

// TestPasswordRotation holds that Redis takes the passwords before for a while, over its own
// restarts, and not after.
func TestPasswordRotation(t *testing.T) {
	s := newPasswordServer(t)
	s.ownCLI()
	s.ownClock()

	s.start("first", 3600)
	s.holds("with the first password", map[string]string{"first": "backend ml", "second": "", "": ""})
	s.stop()

	s.start("second", 3600)
	s.holds("after a rotation",
		map[string]string{"first": "backend ml", "second": "backend ml", "third": ""})
	s.stop()

	s.start("second", 3600) // it crashed: the former password is still taken
	s.holds("after a restart", map[string]string{"first": "backend ml", "second": "backend ml"})
	s.pass(3600)
	s.until("first")
	s.holds("when the time is over", map[string]string{"first": "", "second": "backend ml"})
	s.stop()

	s.start("second", 3600)
	s.holds("after another restart", map[string]string{"first": "", "second": "backend ml"})
	s.stop()

	state, err := os.ReadFile(filepath.Join(s.dir, "passwords"))
	if err != nil || strings.Contains(string(state), "first") ||
		strings.Contains(s.out.String(), "second") {
		t.Errorf("the state holds %q (%v), Redis said %q", state, err, s.out.String())
	}
}

// TestRestoreReceived: of what a restore was still sending when the container ended nothing is left.
func TestRestoreReceived(t *testing.T) {
	s := newPasswordServer(t)
	if err := os.Mkdir(filepath.Join(s.dir, "restoring"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.write("restoring/appendonly.aof.1.base.rdb", "what somebody wrote")
	s.start("first", 60)
	if _, err := os.Stat(filepath.Join(s.dir, "restoring")); !os.IsNotExist(err) {
		t.Errorf("it is there: %v", err)
	}
}

// TestNoSnapshot: beside its append-only file Redis keeps nothing, not when it ends either. It
// removes what a former version has kept.
func TestNoSnapshot(t *testing.T) {
	const secret = "correct-horse-battery-staple"
	s := newPasswordServer(t)
	s.ownCLI()
	for _, name := range []string{"dump.rdb", "temp-17.rdb"} { // the second one did not end
		s.write(name, "what somebody has had erased")
	}
	there := func() bool {
		names, err := filepath.Glob(filepath.Join(s.dir, "*.rdb"))
		return err != nil || len(names) > 0
	}

	stack := load(t, "prod", withPassword())
	s.startStack(stack, secret)
	for deadline := time.Now().Add(time.Minute); there(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the former snapshot is there:\n%s", s.out.String())
		}
	}

	c := s.as(stacks.Backend, redisPasswords(stack, secret)[stacks.Backend])
	if err := c.Set(t.Context(), "conversation:1", "text", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if s.stop(); there() {
		t.Errorf("it has made a snapshot:\n%s", s.out.String())
	}
}

// TestPasswordOfDefaultUser holds that the default user, as whom the services of the version before
// signed in, is let in as long as a former password, with another one of the config or the same.
func TestPasswordOfDefaultUser(t *testing.T) {
	for name, password := range map[string]string{"the same": "first", "another": "second"} {
		t.Run(name, func(t *testing.T) {
			s := newPasswordServer(t)
			s.ownCLI()
			s.ownClock()
			hash := sha256.Sum256([]byte("first"))
			s.write("passwords", hex.EncodeToString(hash[:])+" none 1790000000\n")

			s.start(password, 3600)
			want := map[string]string{"first": "default", "second": ""}
			want[password] += " backend ml"
			want[password] = strings.TrimSpace(want[password])
			s.holds("after the update", want)
			s.stop()

			s.start(password, 3600)
			s.holds("after a restart", want)
			s.pass(3600)
			deadline := time.Now().Add(time.Minute)
			for ; s.takes("default", "first"); time.Sleep(100 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("the default user still gets in:\n%s", s.out.String())
				}
			}

			want = map[string]string{"first": "", "second": ""}
			want[password] = "backend ml"
			s.holds("when the time is over", want)
			s.stop()
		})
	}
}

// TestPasswordOfNewUser holds that a user who comes later takes nothing away from the others when
// the time of former passwords is over.
func TestPasswordOfNewUser(t *testing.T) {
	s := newPasswordServer(t)
	s.ownCLI()
	s.users = []string{"backend"}
	s.start("first", 1)
	s.holds("without the user", map[string]string{"first": "backend"})
	s.stop()

	s.users = append(s.users, "ml")
	s.start("first", 1)
	s.holds("with the user", map[string]string{"first": "backend ml"})
	for deadline := time.Now().Add(time.Minute); s.rotates(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the user of the rotation is still there:\n%s", s.out.String())
		}
	}

	s.holds("when the time is over", map[string]string{"first": "backend ml"})
}

// TestPasswordOnAFullDisk holds that Redis starts with a password that start.sh cannot note, takes
// the one before in that run, and does not take it for a new one when there is room again.
func TestPasswordOnAFullDisk(t *testing.T) {
	s := newPasswordServer(t)
	s.start("first", 3600)
	s.stop()

	full := filepath.Join(s.dir, "passwords.new") // as a directory it takes no text
	if err := os.Mkdir(full, 0o700); err != nil {
		t.Fatal(err)
	}

	s.start("second", 3600)
	s.holds("on a full disk", map[string]string{"first": "backend ml", "second": "backend ml"})
	s.stop()

	if err := os.Remove(full); err != nil {
		t.Fatal(err)
	}

	s.start("second", 3600)
	s.holds("in the run after it", map[string]string{"first": "", "second": "backend ml"})
	s.stop()

	s.start("third", 3600)
	s.holds("after the next rotation",
		map[string]string{"first": "", "second": "backend ml", "third": "backend ml"})
}

// TestHealthOnAFullDisk holds that a Redis that cannot write to its disk, and can be read,
// stays healthy: a cluster would end one that is not again and again, and what it has not
// written yet would be lost.
func TestHealthOnAFullDisk(t *testing.T) {
	s := newPasswordServer(t)
	disk := peers.SmallDisk(t, 8<<20)
	conf, err := os.ReadFile("redis/redis.conf")
	if err != nil {
		t.Fatal(err)
	}

	own := strings.NewReplacer("bind * -::*", "bind 127.0.0.1", "port 6379",
		fmt.Sprint("port ", s.port), "dir /data", "dir "+disk,
		"${maxmemory}", "64mb")
	s.write("redis.conf", own.Replace(string(conf)))
	s.cmd = exec.Command("redis-server", filepath.Join(s.dir, "redis.conf"))
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { // before the disk goes: it does not end by itself while it cannot save
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	})

	for deadline := time.Now().Add(time.Minute); s.health() != nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("Redis is not healthy: %v\n%s", s.health(), s.out.String())
		}
	}

	peers.Fill(t, disk)
	c := redis.NewClient(&redis.Options{
		Addr:            fmt.Sprintf("127.0.0.1:%d", s.port),
		MaxRetries:      -1,
		DisableIdentity: true,
	})
	defer c.Close()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		err := c.Append(t.Context(), "key", strings.Repeat("x", 4<<10)).Err()
		if redis.HasErrorPrefix(err, "MISCONF") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("Redis writes to a full disk: %v", err)
		}
	}

	if err := s.health(); err != nil {
		t.Error(err)
	}
}

// health returns why the stack's health check fails.
func (s *passwordServer) health() error {
	s.t.Helper()
	stack := load(s.t, "prod", withPassword())
	command := stack.Service(stacks.Redis).Health.Command
	args := append([]string{"-p", fmt.Sprint(s.port)}, command[1:]...)
	if out, err := exec.Command(command[0], args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}

	return nil
}

// A Redis that still loads its data refuses every request, so it is not healthy yet.
func TestHealthWhileLoading(t *testing.T) {
	s := newPasswordServer(t)
	conf, err := os.ReadFile("redis/redis.conf")
	if err != nil {
		t.Fatal(err)
	}

	own := strings.NewReplacer("bind * -::*", "bind 127.0.0.1", "port 6379",
		fmt.Sprint("port ", s.port),
		"dir /data", "dir "+s.dir, "${maxmemory}", "64mb")
	s.write("redis.conf", own.Replace(string(conf)))
	c := redis.NewClient(&redis.Options{Addr: fmt.Sprintf("127.0.0.1:%d", s.port), MaxRetries: -1})
	defer c.Close()
	run := func(args ...string) {
		s.cmd = exec.Command("redis-server",
			append([]string{filepath.Join(s.dir, "redis.conf")}, args...)...)
		s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
		if err := s.cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}

	await := func(what string, reached func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !reached(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("waited in vain until %s:\n%s", what, s.out.String())
			}
		}
	}

	run("--rdbcompression", "no")
	await("it is healthy", func() bool { return s.health() == nil })
	for i := range 40 {
		if err := c.Set(t.Context(), fmt.Sprint("key ", i), strings.Repeat("x", 2<<10), 0).Err(); err != nil {
			t.Fatal(err)
		}
	}

	if err := c.BgRewriteAOF(t.Context()).Err(); err != nil { // it serves clients while it loads a snapshot
		t.Fatal(err)
	}

	await("its data are a snapshot", func() bool {
		info := c.Info(t.Context(), "persistence").Val()
		return strings.Contains(info, "aof_rewrite_in_progress:0") &&
			strings.Contains(info, "aof_rewrite_scheduled:0")
	})

	s.stop()

	run("--key-load-delay", "200000", "--loading-process-events-interval-bytes", "1024")
	await("it loads its data", func() bool {
		return redis.HasErrorPrefix(c.Get(t.Context(), "key 1").Err(), "LOADING")
	})
	if s.health() == nil && redis.HasErrorPrefix(c.Get(t.Context(), "key 1").Err(), "LOADING") {
		t.Error("it is healthy while it loads its data")
	}

	await("it is healthy again", func() bool { return s.health() == nil })
}
