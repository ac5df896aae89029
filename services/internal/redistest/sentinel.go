package redistest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/redis/go-redis/v9"
)

// MasterName is what the Sentinel calls the master.
const MasterName = "chat"

// Watched is a master with a replica, and a Sentinel that lets the replica take over
// when the master is gone.
type Watched struct {
	Master, Replica, Sentinel *Server
}

// StartWatched starts them. All three ask for the password, except the Sentinel when open is set.
func StartWatched(t testing.TB, password string, open bool) *Watched {
	t.Helper()
	auth := []string{"--requirepass", password, "--masterauth", password}
	w := &Watched{Master: Start(t, auth...)}
	w.Replica = Start(t, append(auth, "--replicaof", "127.0.0.1 "+w.Master.port)...)
	master := redis.NewClient(&redis.Options{Addr: w.Master.Addr, Password: password})
	t.Cleanup(func() { master.Close() })
	replica := redis.NewClient(&redis.Options{Addr: w.Replica.Addr, Password: password})
	t.Cleanup(func() { replica.Close() })
	until(t, "the replica follows",
		func() (bool, error) { // which may be a second after it is called online
			if err := master.Set(t.Context(), "probe", "1", 0).Err(); err != nil {
				return false, err
			}
			n, err := replica.Exists(t.Context(), "probe").Result()
			return n == 1, err
		})

	if err := master.Del(t.Context(), "probe").Err(); err != nil {
		t.Fatal(err)
	}

	w.Sentinel = retried(t, func(port string) (*Server, error) {
		return w.sentinel(t, port, password, open)
	})
	o := &redis.Options{Addr: w.Sentinel.Addr}
	if !open {
		o.Password = password
	}

	sentinel := redis.NewSentinelClient(o)
	t.Cleanup(func() { sentinel.Close() })
	until(t, "the Sentinel knows the replica", func() (bool, error) {
		replicas, err := sentinel.Replicas(t.Context(), MasterName).Result()
		return len(replicas) == 1 && replicas[0]["master-link-status"] == "ok", err
	})

	return w
}

func (w *Watched) sentinel(t testing.TB, port, password string, open bool) (*Server, error) {
	conf := fmt.Sprintf(`port %[1]s
bind 127.0.0.1
dir %[2]s
sentinel monitor %[3]s 127.0.0.1 %[4]s 1
sentinel auth-pass %[3]s %[5]s
sentinel down-after-milliseconds %[3]s 1000
sentinel failover-timeout %[3]s 2000
`, port, t.TempDir(), MasterName, w.Master.port, password)
	if !open {
		conf += "requirepass " + password + "\n"
	}

	file := filepath.Join(t.TempDir(), "sentinel.conf") // which the Sentinel rewrites
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return nil, err
	}

	return run(t, port, exec.Command(binary(t), file, "--sentinel"))
}
