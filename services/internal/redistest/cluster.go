package redistest

import (
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/test/peers"
	"github.com/redis/go-redis/v9"
)

// Cluster is a Redis Cluster of masters.
type Cluster struct {
	Nodes []*Server
}

// StartCluster starts one of three nodes.
func StartCluster(t testing.TB) *Cluster {
	t.Helper()
	cli := peers.Find(t, "redis", "redis-cli")
	c := &Cluster{}
	for range 3 {
		c.Nodes = append(c.Nodes, StartNode(t))
	}

	out, err := exec.Command(cli,
		append([]string{"--cluster-yes", "--cluster", "create"}, c.Addrs()...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("redis-cli --cluster create: %v\n%s", err, out)
	}

	for _, n := range c.Nodes {
		r := n.Client(t)
		until(t, "the node sees the whole Cluster", func() (bool, error) {
			info, err := r.ClusterInfo(t.Context()).Result()
			return strings.Contains(info, "cluster_state:ok") &&
				strings.Contains(info, "cluster_known_nodes:3"), err
		})
	}

	return c
}

// AddReplica gives the node a replica, which takes over when the node is gone.
func (c *Cluster) AddReplica(t testing.TB, node int) *Server {
	t.Helper()
	replica := StartNode(t)
	r, master := replica.Client(t), c.Nodes[node].Client(t)
	id := master.ClusterMyID(t.Context()).Val()
	_, port, _ := strings.Cut(c.Nodes[node].Addr, ":")
	meet := r.Do(t.Context(), "cluster", "meet", "127.0.0.1", port,
		master.ConfigGet(t.Context(), "cluster-port").Val()["cluster-port"])
	if meet.Err() != nil {
		t.Fatal(meet.Err())
	}

	until(t, "the replica knows its master", func() (bool, error) {
		return r.ClusterReplicate(t.Context(), id).Err() == nil, nil
	})
	until(t, "the replica has its copy", func() (bool, error) {
		info, err := master.Info(t.Context(), "replication").Result()
		return strings.Contains(info, "state=online"), err
	})

	for _, n := range c.Nodes {
		other := n.Client(t)
		until(t, "all know the replica", func() (bool, error) {
			nodes, err := other.ClusterNodes(t.Context()).Result()
			return strings.Contains(nodes, "slave "+id), err
		})
	}

	return replica
}

// StartNode starts a server that can be a node of a Cluster, with further arguments.
func StartNode(t testing.TB, args ...string) *Server {
	t.Helper()
	return retried(t, func(port string) (*Server, error) {
		return launch(t, port, append([]string{
			"--port", port, "--cluster-enabled", "yes",
			"--cluster-port", peers.FreePort(t, "127.0.0.1"), "--cluster-node-timeout", "1000",
		}, args...)...)
	})
}

// Addrs are the nodes' host:port.
func (c *Cluster) Addrs() []string {
	var out []string
	for _, n := range c.Nodes {
		out = append(out, n.Addr)
	}
	return out
}

// Owner is the index of the node that serves the key.
func (c *Cluster) Owner(t testing.TB, key string) int {
	t.Helper()
	r := c.Nodes[0].Client(t)
	slot := int(r.ClusterKeySlot(t.Context(), key).Val())
	for _, shard := range r.ClusterShards(t.Context()).Val() {
		if !slices.ContainsFunc(shard.Slots, func(s redis.SlotRange) bool {
			return int64(slot) >= s.Start && int64(slot) <= s.End
		}) {
			continue
		}

		for _, node := range shard.Nodes {
			for i, n := range c.Nodes {
				if _, port, _ := net.SplitHostPort(n.Addr); node.Role == "master" &&
					port == strconv.FormatInt(node.Port, 10) {
					return i
				}
			}
		}
	}

	t.Fatalf("no node serves %s", key)
	return 0
}

// Move is the move of a key's slot from the node that serves it to another one, in the steps
// that redis-cli takes.
type Move struct {
	t        testing.TB
	slot     int
	from, to *redis.Client
	c        *Cluster
	target   *Server
	targetID string
}

// MoveSlot begins a move.
func (c *Cluster) MoveSlot(t testing.TB, key string) *Move {
	t.Helper()
	owner := c.Owner(t, key)
	source, target := c.Nodes[owner], c.Nodes[(owner+1)%len(c.Nodes)]
	m := &Move{t: t, c: c, from: source.Client(t), to: target.Client(t), target: target}
	m.slot = int(m.from.ClusterKeySlot(t.Context(), key).Val())
	m.targetID = m.to.ClusterMyID(t.Context()).Val()
	m.do(m.to, "cluster", "setslot", m.slot, "importing", m.from.ClusterMyID(t.Context()).Val())
	m.do(m.from, "cluster", "setslot", m.slot, "migrating", m.targetID)
	return m
}

func (m *Move) do(r *redis.Client, args ...any) {
	m.t.Helper()
	if err := r.Do(m.t.Context(), args...).Err(); err != nil {
		m.t.Fatalf("%v: %v", args, err)
	}
}

// Keys are those of the slot that have not been moved.
func (m *Move) Keys() []string {
	return m.from.ClusterGetKeysInSlot(m.t.Context(), m.slot, 1000).Val()
}

// Key moves one.
func (m *Move) Key(key string) {
	m.t.Helper()
	_, port, _ := strings.Cut(m.target.Addr, ":")
	n, err := strconv.Atoi(port)
	if err != nil {
		m.t.Fatal(err)
	}
	m.do(m.from, "migrate", "127.0.0.1", n, key, 0, 5000)
}

// End gives the slot to the target.
func (m *Move) End() {
	m.t.Helper()
	m.do(m.to, "cluster", "setslot", m.slot, "node", m.targetID)
	m.do(m.from, "cluster", "setslot", m.slot, "node", m.targetID)
}
