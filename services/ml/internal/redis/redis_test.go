package redis_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/redis"
)

// count adds to a key, and returns it with the length of an argument.
var count = redis.NewScript(`return {redis.call('INCRBY', KEYS[1], ARGV[1]), #ARGV[2]}`)

func client(t *testing.T, a contract.Redis) *redis.Client {
	t.Helper()
	c, err := redis.New(a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func add(t *testing.T, c *redis.Client, key, n string) ([]int, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	return c.Run(ctx, count, []string{key}, n, "ä\r\n")
}

// TestRun: wherever Redis is, a script runs and its numbers come back.
func TestRun(t *testing.T) {
	const password = "correct-horse"
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}

	authority := redistest.NewAuthority(t)
	plain := redistest.Start(t)
	encrypted := authority.StartTLS(t, "127.0.0.1", "--tls-auth-clients", "no")
	secret := redistest.Start(t, "--requirepass", password,
		"--user", "chat", "on", ">"+password, "~*", "+@all",
		"--user", "open", "on", "nopass", "~*", "+@all")
	watched := redistest.StartWatched(t, password, false)
	open := redistest.StartWatched(t, password, true)
	cluster := redistest.StartCluster(t)
	sentinels := func(master string, addrs ...string) contract.Redis {
		return contract.Redis{URL: "redis://unused:1", Password: password, Sentinels: addrs,
			Master: master}
	}

	nodes := func(addrs ...string) contract.Redis {
		return contract.Redis{URL: "redis://unused:1", Cluster: addrs}
	}
	const nobody, master = "127.0.0.1:1", redistest.MasterName
	asChat := strings.Replace(secret.URL, "//", "//chat@", 1)
	asOpen := strings.Replace(secret.URL, "//", "//open@", 1)
	for name, tc := range map[string]struct {
		a    contract.Redis
		want string // the error
	}{
		"one server":           {contract.Redis{URL: plain.URL}, ""},
		"another database":     {contract.Redis{URL: "redis://" + plain.Addr + "/3"}, ""},
		"TLS":                  {contract.Redis{URL: encrypted.URL, CAFile: authority.File}, ""},
		"a password":           {contract.Redis{URL: secret.URL, Password: password}, ""},
		"a user":               {contract.Redis{URL: asChat, Password: password}, ""},
		"a user without one":   {contract.Redis{URL: asOpen}, ""},
		"Sentinels":            {sentinels(master, nobody, watched.Sentinel.Addr), ""},
		"an open Sentinel":     {sentinels(master, open.Sentinel.Addr), ""},
		"a Cluster":            {nodes(append([]string{nobody}, cluster.Addrs()...)...), ""},
		"its last node":        {nodes(cluster.Addrs()[2:]...), ""},
		"nobody there":         {contract.Redis{URL: "redis://" + nobody}, "refused"},
		"the wrong password":   {contract.Redis{URL: secret.URL, Password: "battery-staple"}, "WRONGPASS"},
		"no password":          {contract.Redis{URL: secret.URL}, "NOAUTH"},
		"an unknown master":    {sentinels("other", watched.Sentinel.Addr), "knows no master"},
		"no such database":     {contract.Redis{URL: "redis://" + plain.Addr + "/99"}, "out of range"},
		"an unknown authority": {contract.Redis{URL: encrypted.URL}, "certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			c := client(t, tc.a)
			for n := range 2 {
				got, err := add(t, c, name, "1")
				switch {
				case tc.want == "" && (err != nil || !slices.Equal(got, []int{n + 1, 4})):
					t.Fatalf("%v, %v", got, err)
				case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
					t.Fatalf("%v, %v", got, err)
				case err == nil:
				case strings.Contains(err.Error(), password),
					strings.Contains(err.Error(), "battery"):
					t.Errorf("the error shows a password: %v", err)
				}
			}
		})
	}

	for _, a := range []contract.Redis{{URL: "redis://a:1/x"}, {URL: "redis://a:1/-1"},
		{URL: "rediss://a:1", CAFile: "/gone"}, {URL: "rediss://a:1", CAFile: file}} {
		if _, err := redis.New(a); err == nil || !strings.HasPrefix(err.Error(), "REDIS_") {
			t.Errorf("%+v: %v", a, err)
		}
	}
}

// TestRunsOn: a server that is another one since the last script does no harm.
func TestRunsOn(t *testing.T) {
	server := redistest.Start(t)
	c := client(t, contract.Redis{URL: server.URL})
	if got, err := add(t, c, "n", "1"); err != nil || got[0] != 1 {
		t.Fatal(got, err)
	}

	server.Restart(t) // it has forgotten the script as well
	if got, err := add(t, c, "n", "1"); err != nil || got[0] != 1 {
		t.Fatal(got, err)
	}

	if _, err := add(t, c, "n", "x"); err == nil ||
		!strings.Contains(err.Error(), "not an integer") {
		t.Errorf("%v", err)
	}

	if got, err := add(t, c, "n", "1"); err != nil || got[0] != 2 {
		t.Error(got, err)
	}

	resume := server.Pause(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := c.Run(ctx, count, []string{"n"}, "1", "")
	if err == nil || time.Since(start) > time.Second {
		t.Errorf("%v after %s", err, time.Since(start))
	}

	resume()
	until(t, func() bool { got, err := add(t, c, "n", "0"); return err == nil && got[0] >= 2 })
}

// TestFollowsTheMaster: after Sentinels let the replica take over, scripts run there.
func TestFollowsTheMaster(t *testing.T) {
	w := redistest.StartWatched(t, "correct-horse", false)
	c := client(t, contract.Redis{URL: "redis://unused:1", Password: "correct-horse",
		Sentinels: []string{w.Sentinel.Addr}, Master: redistest.MasterName})
	if _, err := add(t, c, "n", "1"); err != nil {
		t.Fatal(err)
	}

	w.Master.Kill(t)
	until(t, func() bool { _, err := add(t, c, "n", "1"); return err == nil })
}

func until(t *testing.T, reached func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !reached(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
	}
}

// A command for which Redis takes its time delays no other.
func TestSlowCommand(t *testing.T) {
	n := newNode(t, 1)
	c := client(t, contract.Redis{URL: "redis://" + n.addr})
	slow := make(chan error)
	go func() {
		_, err := add(t, c, "n", "1")
		slow <- err
	}()

	<-n.came
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := c.Run(ctx, count, []string{"n"}, "1", ""); err != nil {
		t.Errorf("while another command is slow: %v", err)
	}

	close(n.goOn)
	if err := <-slow; err != nil {
		t.Error(err)
	}
}

// TestNoRedis: what is no reply of Redis is an error, whatever it is, and the next one is read from
// a connection of its own.
func TestNoRedis(t *testing.T) {
	replies := []string{"", "\r\n", "HTTP/1.1 400 Bad Request\r\n", "*1\r\n$3\r\nabc\r\n",
		":1\r\n", "$99999999\r\n", "*-1\r\n",
		"*2\r\n-ERR one\r\n:1\r\n", "*1\r\n*1\r\n:1\r\n", "*1\r\n:x\r\n",
		"+" + strings.Repeat("x", 5000) + "\r\n"}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	next := make(chan string, 1)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}

			for _, err := bufio.NewReader(conn).ReadString('\n'); err == nil; err = nil {
				fmt.Fprint(conn, <-next)
				break
			}

			conn.Close()
		}
	}()

	for _, reply := range replies {
		c := client(t, contract.Redis{URL: "redis://" + l.Addr().String()})
		next <- reply
		if got, err := add(t, c, "n", "1"); err == nil {
			t.Errorf("%q is %v", reply, got)
		}
	}
}

// TestHungServerIsNotAskedAgain checks that a Sentinel or a node that accepts connections and says
// nothing costs the attempt that meets it and not the next one.
func TestHungServerIsNotAskedAgain(t *testing.T) {
	hung, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { hung.Close() })

	cluster := redistest.StartCluster(t)
	watched := redistest.StartWatched(t, "correct-horse", true)
	for name, a := range map[string]contract.Redis{
		"Cluster": {URL: "redis://unused:1", Cluster: append([]string{hung.Addr().String()}, cluster.Addrs()...)},
		"Sentinels": {URL: "redis://unused:1", Password: "correct-horse", Master: redistest.MasterName,
			Sentinels: []string{hung.Addr().String(), watched.Sentinel.Addr}},
	} {
		t.Run(name, func(t *testing.T) {
			c := client(t, a)
			run := func(most time.Duration) error {
				ctx, cancel := context.WithTimeout(t.Context(), most)
				defer cancel()
				_, err := c.Run(ctx, count, []string{"hung"}, "1", "")
				return err
			}

			if err := run(time.Second); err == nil {
				t.Fatal("the hung server answered")
			}
			if err := run(20 * time.Second); err != nil { // as long as a busy machine may take
				t.Errorf("the next attempt: %v", err)
			}
		})
	}
}

// node answers scripts with 1.
type node struct {
	addr string

	// came receives for each script that came. The first connections answer when goOn is closed.
	came, goOn chan struct{}

	// silent is how many of the connections, in their order, get no answer any more.
	silent atomic.Int32
}

// newNode returns a node of which so many connections wait, in their order, and others answer at
// once.
func newNode(t *testing.T, waiting int32) *node {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { l.Close() })

	n := &node{addr: l.Addr().String(), came: make(chan struct{}, 16), goOn: make(chan struct{})}
	go func() {
		for number := int32(1); ; number++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}

			go func() {
				defer conn.Close()
				for b := make([]byte, 4<<10); ; {
					if _, err := conn.Read(b); err != nil {
						return
					}

					n.came <- struct{}{}
					if number <= waiting {
						<-n.goOn
					}
					if number > n.silent.Load() {
						fmt.Fprint(conn, "*1\r\n:1\r\n")
					}
				}
			}()
		}
	}()

	return n
}

// connect makes the client open all its connections.
func (n *node) connect(t *testing.T, c *redis.Client) {
	t.Helper()
	const all = 4
	errs := make(chan error, all)
	for range all {
		go func() {
			_, err := add(t, c, "n", "1")
			errs <- err
		}()
	}

	for range all {
		select {
		case <-n.came:
		case <-time.After(20 * time.Second):
			t.Error("a connection does not lead to the node")
		}
	}

	close(n.goOn)
	for range all {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// hangs checks that a script gets no answer.
func hangs(t *testing.T, c *redis.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := c.Run(ctx, count, []string{"n"}, "1", ""); err == nil {
		t.Error("the hung server answered")
	}
}

// TestStaysWithAnswering checks that of two nodes none is asked again that hangs, however many
// connections are made later.
func TestStaysWithAnswering(t *testing.T) {
	hung, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { hung.Close() })

	n := newNode(t, 4)
	c := client(t, contract.Redis{URL: "redis://unused:1",
		Cluster: []string{hung.Addr().String(), n.addr}})
	hangs(t, c)
	n.connect(t, c)
}

// TestHungConnections checks that connections that hang together, as those to a master that has
// gone, cost one script and not one each.
func TestHungConnections(t *testing.T) {
	n := newNode(t, 4)
	c := client(t, contract.Redis{URL: "redis://" + n.addr})
	n.connect(t, c)
	n.silent.Store(4)
	hangs(t, c)
	for range 4 {
		if _, err := add(t, c, "n", "1"); err != nil {
			t.Fatal(err)
		}
	}
}
