// Package outside is the world around a stack, for tests of what a container reaches: a network
// namespace with addresses as the internet has them, a metadata address and a DNS server, and
// programs of the machine itself. All of it answers, and what is sent there is seen, so that a
// container which reaches nobody is known to be fenced in, and not only to lack a network.
//
// It needs root, as it makes a namespace and the routes to it. The addresses are those that are set
// aside for documentation: nobody else's traffic goes there.
package outside

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/test/peers"
)

// Addresses of the world.
const (
	Somebody = "198.51.100.10"

	another    = "203.0.113.10"
	metadata   = "169.254.169.254"
	nameServer = "198.51.100.53"
	ipv6       = "2001:db8::10"

	// Machine is this machine, as the world sees it.
	Machine     = "198.51.100.1"
	machineIPv6 = "2001:db8::1"
)

const (
	namespace = "codexcontinue-outside"
	link      = "cc-outside"
)

// Program is the attempt at a program of this machine.
const Program = "a program of the machine"

// diverted matches the questions of DNS that hold a word, to whatever server. They are sent to the
// world's, so that what a resolver forwards is seen.
var diverted = strings.Fields("-p udp --dport 53 -m string --algo bm --string " + wordPrefix +
	" -j DNAT --to-destination " + nameServer)

// masqueraded gives this machine's own questions, which may come from 127.0.0.1, an address that
// the world can answer.
var masqueraded = strings.Fields("-o " + link + " -p udp --dport 53 -m addrtype --src-type LOCAL " +
	"-j MASQUERADE")

// World is what is around the stacks of this machine.
type World struct {
	// Port is where a program of this machine answers, at each of its addresses.
	Port string

	peer string

	mu    sync.Mutex
	lines map[string]bool
	tries int
}

// Start makes the world, for the time of the test. All of it answers this machine: what others do
// not reach is not for lack of it. A second world waits for the end of the first.
func Start(t testing.TB) *World {
	t.Helper()
	if os.Getuid() != 0 {
		peers.Missing(t, "root", fmt.Errorf("a network namespace takes root"))
	}
	for _, program := range []string{"ip", "iptables", "nsenter"} {
		peers.Find(t, program, program)
	}

	w := &World{
		Port:  peers.FreePort(t, "127.0.0.1"),
		peer:  filepath.Join(t.TempDir(), "peer"),
		lines: map[string]bool{},
	}
	w.build(t)

	alone(t)
	remove(t)
	t.Cleanup(func() { remove(t) })
	for _, line := range []string{
		"ip netns add " + namespace,
		"ip link add " + link + " type veth peer name eth0 netns " + namespace,
		"ip address add " + Machine + "/24 dev " + link,
		"ip -6 address add " + machineIPv6 + "/64 dev " + link + " nodad",
		"ip link set " + link + " up",
		"ip -n " + namespace + " link set lo up",
		"ip -n " + namespace + " link set eth0 up",
		"ip -n " + namespace + " address add " + Somebody + "/24 dev eth0",
		"ip -n " + namespace + " address add " + nameServer + "/24 dev eth0",
		"ip -n " + namespace + " address add " + another + "/32 dev eth0",
		"ip -n " + namespace + " address add " + metadata + "/32 dev eth0",
		"ip -n " + namespace + " -6 address add " + ipv6 + "/64 dev eth0 nodad",
		// A machine of a cloud has a route to its metadata already: this one comes first.
		"ip route prepend " + another + "/32 via " + Somebody,
		"ip route prepend " + metadata + "/32 via " + Somebody,
	} {
		must(t, strings.Fields(line)...)
	}

	must(t, rule("-I", "PREROUTING", diverted)...)
	must(t, rule("-I", "OUTPUT", diverted)...)
	must(t, rule("-I", "POSTROUTING", masqueraded)...)

	w.serve(t, "ip", "netns", "exec", namespace, w.peer, "serve", Somebody+":443", another+":80",
		metadata+":80", nameServer+":53", "["+ipv6+"]:443")

	l, err := net.Listen("tcp", ":"+w.Port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { _ = serveTCP(l, io.Discard) }()

	// On a busy machine an answer may take longer than an attempt waits.
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		results, err := w.From(0, "control", w.Attempts())
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(results, func(r Result) bool { return r.Outcome != Answered })
		if i < 0 {
			return w
		}
		if time.Now().After(deadline) {
			t.Fatalf("this machine does not reach the world: %s", results[i])
		}
	}
}

// alone waits until no other test of this machine has a world, whose names are the same.
func alone(t testing.TB) {
	t.Helper()
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), namespace+".lock"), os.O_CREATE, 0o600)
	if err == nil {
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lock.Close() }) // after the world is removed
}

// build compiles the peer, which runs in containers' namespaces.
func (w *World) build(t testing.TB) {
	t.Helper()
	build := exec.Command("go", "build", "-o", w.peer,
		"github.com/codexcontinue/codexcontinue/test/outside/peer")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func rule(how, chain string, what []string) []string {
	return slices.Concat([]string{"iptables", "-w", "-t", "nat", how, chain}, what)
}

func must(t testing.TB, command ...string) {
	t.Helper()
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
}

// remove takes the world away, also that of a test which was killed.
func remove(t testing.TB) {
	t.Helper()
	for chain, what := range map[string][]string{
		"PREROUTING": diverted, "OUTPUT": diverted, "POSTROUTING": masqueraded,
	} {
		for exec.Command("iptables", rule("-C", chain, what)[1:]...).Run() == nil {
			must(t, rule("-D", chain, what)...)
		}
	}

	_ = exec.Command("ip", "netns", "delete", namespace).Run()
	// The link goes with the namespace, later.
	_ = exec.Command("ip", "link", "delete", link).Run()
}

// ServeIn answers at the address in the network namespace of the process, until the test ends.
func (w *World) ServeIn(t testing.TB, pid int, address string) {
	t.Helper()
	w.serve(t, "nsenter", "-t", strconv.Itoa(pid), "-n", w.peer, "serve", address)
}

// serve runs a server until the test ends, and returns when it listens.
func (w *World) serve(t testing.TB, command ...string) {
	t.Helper()
	server := exec.Command(command[0], command[1:]...)
	var said bytes.Buffer
	server.Stderr = &said
	out, err := server.StdoutPipe()
	if err == nil {
		err = server.Start()
	}
	if err != nil {
		t.Fatal(err)
	}

	listens, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if lines.Text() == ready {
				close(listens)
				continue
			}

			w.mu.Lock()
			w.lines[lines.Text()] = true
			w.mu.Unlock()
		}
	}()

	t.Cleanup(func() {
		_ = server.Process.Kill()
		<-ended
		_ = server.Wait()
	})

	select {
	case <-listens:
	case <-ended:
		t.Fatalf("%s: %s", strings.Join(command, " "), said.String())
	}
}

// Attempts are what every container is held to, and more.
func (w *World) Attempts(more ...Attempt) []Attempt {
	return append([]Attempt{
		{What: "an address outside", Kind: TCP, Address: Somebody + ":443"},
		{What: "a datagram to it", Kind: UDP, Address: Somebody + ":443"},
		{What: "an address of another network", Kind: TCP, Address: another + ":80"},
		{What: "the metadata address", Kind: TCP, Address: metadata + ":80"},
		{What: "an IPv6 address outside", Kind: TCP, Address: "[" + ipv6 + "]:443"},
		{What: "a name, asked of a server outside", Kind: DNS, Address: nameServer + ":53"},
		{What: Program, Kind: TCP, Address: net.JoinHostPort(Machine, w.Port)},
	}, more...)
}

// From makes the attempts in the network namespace of the process; 0 is this machine's. who names
// it in letters, digits and dashes. Of several attempts at one thing it returns the worst.
func (w *World) From(pid int, who string, attempts []Attempt) ([]Result, error) {
	if pid == 0 {
		return w.from(nil, who, attempts)
	}
	return w.from([]string{"nsenter", "-t", strconv.Itoa(pid), "-n"}, who, attempts)
}

// FromOutside makes the attempts from the world.
func (w *World) FromOutside(attempts ...Attempt) ([]Result, error) {
	return w.from([]string{"ip", "netns", "exec", namespace}, "world", attempts)
}

func (w *World) from(in []string, who string, attempts []Attempt) ([]Result, error) {
	w.mu.Lock()
	w.tries++
	try := w.tries
	w.mu.Unlock()

	attempts = slices.Clone(attempts)
	for i := range attempts {
		attempts[i].Word = fmt.Sprintf("%s%s-%d-%d", wordPrefix, who, try, i)
	}

	asked, err := json.Marshal(attempts)
	if err != nil {
		return nil, err
	}

	command := slices.Concat(in, []string{w.peer, "try"})
	run := exec.Command(command[0], command[1:]...)
	run.Stdin = bytes.NewReader(asked)
	var said bytes.Buffer
	run.Stderr = &said
	out, err := run.Output()
	var results []Result
	if err == nil {
		err = json.Unmarshal(out, &results)
	}
	if err != nil {
		return nil, fmt.Errorf("attempts of %s: %w\n%s", who, err, said.String())
	}

	time.Sleep(100 * time.Millisecond) // for the last lines of the servers
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range results {
		r := &results[i]
		switch {
		case r.Outcome == Answered:
		case w.lines[got+r.Word]:
			r.Outcome = Arrives
		case w.lines[seen+r.Word]:
			r.Outcome = Leaves
		}
	}

	return worst(results), nil
}

// worst returns one result for each thing that is tried, the worst, in the order of the attempts.
func worst(results []Result) []Result {
	order := []Outcome{Answered, Arrives, Leaves, Nothing}
	var out []Result
	for _, r := range results {
		i := slices.IndexFunc(out, func(o Result) bool { return o.What == r.What })
		switch {
		case i < 0:
			out = append(out, r)
		case slices.Index(order, r.Outcome) < slices.Index(order, out[i].Outcome):
			out[i] = r
		}
	}

	return out
}
