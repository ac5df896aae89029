package outside

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"syscall"

	"github.com/miekg/dns"

	"github.com/codexcontinue/codexcontinue/test/nameserver"
)

// wordPrefix begins the word of every attempt.
const wordPrefix = "codexcontinue-probe-"

var words = regexp.MustCompile(wordPrefix + "[a-z0-9-]+")

// Lines that Serve and Sniff write: ready when Serve listens, and a word with one of the others
// before it.
const (
	ready = "ready"
	got   = "got "
	seen  = "seen "
)

// Serve answers at the addresses, host:port each, over TCP and UDP, with what was said, and at port
// 53 as a server of DNS. It writes a line to log for each word that it gets.
func Serve(ctx context.Context, addresses []string, log io.Writer) error {
	failed := make(chan error, 2*len(addresses))
	for _, address := range addresses {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		defer l.Close()

		p, err := net.ListenPacket("udp", address)
		if err != nil {
			return err
		}
		defer p.Close()

		answer := func(said []byte) ([]byte, error) { return said, nil }
		if strings.HasSuffix(address, ":53") {
			answer = resolve
		}
		go func() { failed <- serveTCP(l, log) }()
		go func() { failed <- serveUDP(p, answer, log) }()
	}

	fmt.Fprintln(log, ready)
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

func serveTCP(l net.Listener, log io.Writer) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}

		go func() {
			defer conn.Close()

			said := make([]byte, 1500)
			n, _ := conn.Read(said)
			fmt.Fprintf(log, "%s%s\n", got, words.Find(said[:n]))
			_, _ = conn.Write(said[:n])
		}()
	}
}

func serveUDP(p net.PacketConn, answer func([]byte) ([]byte, error), log io.Writer) error {
	said := make([]byte, 1500)
	for {
		n, from, err := p.ReadFrom(said)
		if err != nil {
			return err
		}

		fmt.Fprintf(log, "%s%s\n", got, words.Find(said[:n]))
		if text, err := answer(said[:n]); err == nil {
			_, _ = p.WriteTo(text, from)
		}
	}
}

// resolve answers a question of DNS: every name has an address.
func resolve(packet []byte) ([]byte, error) {
	var m dns.Msg
	if err := m.Unpack(packet); err != nil {
		return nil, err
	}
	return nameserver.Answer(&m, func(string) []netip.Addr {
		return []netip.Addr{netip.MustParseAddr(Somebody)}
	}).Pack()
}

// Sniff writes a line to log for each frame with a word that passes an interface of its network
// namespace. It sees what the kernel drops, because nobody could answer it.
func Sniff(log io.Writer) error {
	const everything = 0x0300 // ETH_P_ALL, in the network's order of bytes
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW, everything)
	if err != nil {
		return err
	}

	frame := make([]byte, 1<<16)
	for {
		n, _, err := syscall.Recvfrom(fd, frame, 0)
		if err != nil {
			return err
		}
		if word := words.Find(frame[:n]); word != nil {
			fmt.Fprintf(log, "%s%s\n", seen, word)
		}
	}
}
