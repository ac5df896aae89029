package stacks_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/peers"
	"github.com/redis/go-redis/v9"
)

// passwordServer is a Redis that start.sh starts, again and again on the same data.
type passwordServer struct {
	t    *testing.T
	dir  string
	port int
	out  bytes.Buffer
	cmd  *exec.Cmd
}

func newPasswordServer(t *testing.T) *passwordServer {
	t.Helper()
	peers.Find(t, "redis", "redis-server")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	s := &passwordServer{t: t, dir: t.TempDir(), port: l.Addr().(*net.TCPAddr).Port}
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
	s.write("auth.conf", "user default reset on #"+hex.EncodeToString(hash[:])+" ~* &* +@all\n")

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

	for deadline := time.Now().Add(10 * time.Second); !s.takes("health", "any"); time.Sleep(20 * time.Millisecond) {
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
	})
	defer c.Close()
	return c.Ping(context.Background()).Err() == nil
}

// TestPasswordRotation holds that Redis takes the password before for a while, over its own
// restarts, and not after.
func TestPasswordRotation(t *testing.T) {
	s := newPasswordServer(t)
	// The script's redis-cli talks to the stack's port; here it has to take the test's.
	cli, err := exec.LookPath("redis-cli")
	if err != nil {
		t.Skip("redis-cli is not on PATH")
	}

	s.write("redis-cli", fmt.Sprintf("#!/bin/sh\nexec %s -p %d \"$@\"\n", cli, s.port))
	if err := os.Chmod(filepath.Join(s.dir, "redis-cli"), 0o700); err != nil {
		t.Fatal(err)
	}

	s.start("first", 3)
	if !s.takes("", "first") || s.takes("", "second") || s.takes("rotation", "") {
		t.Fatal("a Redis with its first password takes another, or not its own")
	}

	s.stop()

	s.start("second", 3)
	if !s.takes("", "second") || !s.takes("", "first") || s.takes("", "third") {
		t.Fatalf("after a rotation Redis does not take both:\n%s", s.out.String())
	}

	s.stop()

	s.start("second", 3) // it crashed: the former password is still taken
	if !s.takes("", "second") || !s.takes("", "first") {
		t.Fatalf("after a restart Redis does not take both:\n%s", s.out.String())
	}

	for deadline := time.Now().Add(10 * time.Second); s.takes("", "first"); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("Redis still takes the former password:\n%s", s.out.String())
		}
	}

	if !s.takes("", "second") {
		t.Error("Redis forgot its own password with the former one")
	}

	s.stop()

	s.start("second", 3)
	if s.takes("", "first") {
		t.Error("a restart brings the former password back")
	}

	s.stop()

	state, err := os.ReadFile(filepath.Join(s.dir, "passwords"))
	if err != nil || strings.Contains(string(state), "first") ||
		strings.Contains(s.out.String(), "second") {
		t.Errorf("the state holds %q (%v), Redis said %q", state, err, s.out.String())
	}
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
	if !s.takes("", "second") || !s.takes("", "first") {
		t.Errorf("on a full disk Redis does not take both:\n%s", s.out.String())
	}

	s.stop()

	if err := os.Remove(full); err != nil {
		t.Fatal(err)
	}

	s.start("second", 3600)
	if !s.takes("", "second") || s.takes("", "first") {
		t.Error("Redis takes a password that was replaced in a run before")
	}

	s.stop()

	s.start("third", 3600)
	if !s.takes("", "third") || !s.takes("", "second") || s.takes("", "first") {
		t.Error("the next rotation does not let in the password before it, and that alone")
	}
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

	stack := load(t, "prod", withPassword())
	command := stack.Service(stacks.Redis).Health.Command
	healthy := func() error {
		out, err := exec.Command(command[0],
			append([]string{"-p", fmt.Sprint(s.port)}, command[1:]...)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}

	for deadline := time.Now().Add(10 * time.Second); healthy() != nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("Redis is not healthy: %v\n%s", healthy(), s.out.String())
		}
	}

	peers.Fill(t, disk)
	c := redis.NewClient(&redis.Options{
		Addr:            fmt.Sprintf("127.0.0.1:%d", s.port),
		MaxRetries:      -1,
		DisableIdentity: true,
	})
	defer c.Close()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := c.Append(t.Context(), "key", strings.Repeat("x", 4<<10)).Err()
		if redis.HasErrorPrefix(err, "MISCONF") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("Redis writes to a full disk: %v", err)
		}
	}

	if err := healthy(); err != nil {
		t.Error(err)
	}
}
