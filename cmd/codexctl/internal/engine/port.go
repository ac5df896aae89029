package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/moby/moby/client"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// holder is a container that has published a port.
type holder struct {
	Name  string
	Stack string // of this project; empty when it belongs to something else
}

// publishers returns the containers on the engine by the ports they publish, of each protocol.
func (e *Engine) publishers(ctx context.Context) (map[string]map[netip.AddrPort]holder, error) {
	list, err := e.api.ContainerList(ctx, client.ContainerListOptions{})
	if err != nil {
		return nil, fmt.Errorf("engine: list containers: %w", err)
	}

	out := map[string]map[netip.AddrPort]holder{}
	for _, c := range list.Items {
		h := holder{}
		if len(c.Names) > 0 {
			h.Name = strings.TrimPrefix(c.Names[0], "/")
		}
		if c.Labels[stacks.LabelProject] == stacks.Project {
			h.Stack = c.Labels[stacks.LabelStack]
		}

		for _, p := range c.Ports {
			if p.PublicPort == 0 {
				continue
			}
			if out[p.Type] == nil {
				out[p.Type] = map[netip.AddrPort]holder{}
			}
			out[p.Type][netip.AddrPortFrom(p.IP, p.PublicPort)] = h
		}
	}

	return out, nil
}

// overlaps reports whether two listeners cannot exist at once.
func overlaps(a, b netip.AddrPort) bool {
	return a.Port() == b.Port() && (!a.Addr().IsValid() || !b.Addr().IsValid() ||
		a.Addr().IsUnspecified() || b.Addr().IsUnspecified() || a.Addr() == b.Addr())
}

// Taken is the error of a host port that a stack needs and something else holds.
type Taken struct {
	// Service is the service that publishes the port.
	Service string
	Address string
	Port    int

	// Protocol is tcp or udp.
	Protocol string

	// By names what holds the port; empty if that is not known.
	By string

	// Todo tells how to go on.
	Todo string
}

// TakenPorts returns the host ports that the stack publishes and something else holds.
func (e *Engine) TakenPorts(ctx context.Context, s stacks.Stack) ([]*Taken, error) {
	publishers, err := e.publishers(ctx)
	if err != nil {
		return nil, err
	}

	var out []*Taken
	for _, svc := range s.Services {
		for _, p := range svc.Ports {
			if p.Host == 0 {
				continue
			}

			address, held := cmp.Or(p.Address, "127.0.0.1"), publishers[p.Protocol()]
			t := takenPort(held, s.Name, p.Protocol(), address, p.Host, e.Host.Local())
			if t != nil {
				t.Service = svc.Name
				out = append(out, t)
			}
		}
	}

	return out, nil
}

// takenPort returns a *Taken if a port that stack publishes is held by something other than the
// stack, or nil. Processes of the host are found only if the engine runs on this machine.
// publishers are those of the protocol.
func takenPort(
	publishers map[netip.AddrPort]holder, stack, protocol, address string, port int, local bool,
) *Taken {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		addr = netip.IPv4Unspecified()
	}

	want := netip.AddrPortFrom(addr, uint16(port))
	for have, holder := range publishers {
		if !overlaps(want, have) {
			continue
		}
		if holder.Stack == stack {
			return nil
		}

		t := &Taken{
			Address:  address,
			Port:     port,
			Protocol: protocol,
			By:       "container " + holder.Name,
			Todo:     "stop it with `docker stop " + holder.Name + "`",
		}
		if holder.Stack != "" {
			t.By = "stack " + holder.Stack + " (container " + holder.Name + ")"
			t.Todo = "run `codexctl down " + holder.Stack + "`"
		}

		return t
	}

	if !local {
		return nil
	}

	err = listen(protocol, net.JoinHostPort(address, strconv.Itoa(port)))
	if !errors.Is(err, syscall.EADDRINUSE) {
		return nil // the engine may be allowed what this process is not
	}

	t := &Taken{
		Address:  address,
		Port:     port,
		Protocol: protocol,
		Todo: fmt.Sprintf("stop what listens there (`ss -l%cnp 'sport = :%d'` names it)",
			protocol[0], port),
	}

	if pid, name := listener(protocol, want); pid != 0 {
		t.By = fmt.Sprintf("process %d (%s)", pid, name)
		t.Todo = fmt.Sprintf("stop it (kill %d)", pid)
	}

	return t
}

// listen tries to listen on the address.
func listen(protocol, address string) error {
	var l io.Closer
	var err error
	if protocol == "udp" {
		l, err = net.ListenPacket(protocol, address)
	} else {
		l, err = net.Listen(protocol, address)
	}
	if err != nil {
		return err
	}
	return l.Close()
}

// Local reports whether the engine runs on this machine, as far as its address tells.
func (h Host) Local() bool {
	return strings.HasPrefix(h.URL, "unix://") || strings.HasPrefix(h.URL, "npipe://") ||
		strings.HasPrefix(h.URL, "tcp://127.0.0.1:") || strings.HasPrefix(h.URL, "tcp://localhost:")
}

// listener returns the process that listens on the address, from /proc as ss does, or 0 if it is
// not found or belongs to another user.
func listener(protocol string, want netip.AddrPort) (pid int, name string) {
	// The state is LISTEN, or of UDP, where nobody does, CLOSE.
	inode, state := "", "0A"
	if protocol == "udp" {
		state = "07"
	}

	for _, file := range []string{"/proc/net/" + protocol, "/proc/net/" + protocol + "6"} {
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}

		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			// Field 1 is the local address, 3 the state, 9 the socket's inode.
			if len(f) < 10 || f[3] != state {
				continue
			}

			_, hexPort, _ := strings.Cut(f[1], ":")
			if n, err := strconv.ParseUint(hexPort, 16, 16); err == nil &&
				uint16(n) == want.Port() {
				inode = f[9]
			}
		}
	}

	if inode == "" {
		return 0, ""
	}

	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, l := range links {
		if target, err := os.Readlink(l); err == nil && target == "socket:["+inode+"]" {
			dir := filepath.Dir(filepath.Dir(l))
			pid, _ = strconv.Atoi(filepath.Base(dir))
			comm, _ := os.ReadFile(filepath.Join(dir, "comm"))
			return pid, strings.TrimSpace(string(comm))
		}
	}

	return 0, ""
}

// Error returns what is taken, by whom, and how to go on.
func (t *Taken) Error() string {
	by := t.By
	if by == "" {
		by = "something else"
	}
	at := net.JoinHostPort(t.Address, strconv.Itoa(t.Port))
	if t.Protocol == "udp" {
		at += " (UDP)"
	}
	return fmt.Sprintf("services.%s.ports: %s is taken by %s: %s, or choose another port in the "+
		"stack's settings (codexcontinue:edge.port, codexcontinue:portOffset)",
		t.Service, at, by, t.Todo)
}
