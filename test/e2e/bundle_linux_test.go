package e2e

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"golang.org/x/sys/unix"

	"github.com/codexcontinue/codexcontinue/test/peers"
)

// TestBundle carries a stack to a machine that has an engine and nothing else: an empty home, no
// Go, no Pulumi, no image, and a network namespace without a route.
func TestBundle(t *testing.T) {
	enabled(t)
	t.Parallel()
	const stack, address = "e2e-bundle", "127.0.0.1:24080"
	island := newIsland(t, address)

	c := newCheckout(t)
	c.settings(t, stack, "overlay: healthcare\nportOffset: 16000")
	c.usePulumi(t, stack)
	c.must(t, time.Minute, "pulumi", "stack", "init", stack)
	c.secret(t, stack, "codexcontinue:redisPassword", "carried-to-an-island")
	c.must(t, time.Minute, "bin/codexctl", "certificates", "new", stack)
	load := c.carry(t, stack, island)
	island.must(t, 5*time.Minute, "bin/codexctl", load...)
	island.usePulumi(t, stack)
	island.hasNot(t, "go", "pulumi-language-go", "pulumi-resource-docker")

	island.must(t, 5*time.Minute, "bin/codexctl", "up", stack)
	site := "http://" + address
	b := newBrowser(t)
	b.signIn(t, island.invite(t, stack, site, "ada", "--admin"), site)
	chat(t, b, site+"/")

	nothingChanges := func() {
		t.Helper()
		island.must(t, time.Minute, "bin/codexctl", "preview", "--expect-no-changes", stack)
	}
	nothingChanges()
	island.must(t, 5*time.Minute, "pulumi", "refresh", "--yes", "-s", stack, "--non-interactive")
	nothingChanges()

	t.Run("again it changes nothing", func(t *testing.T) {
		before := island.containers(t, stack)
		_, said, err := island.run(t, 5*time.Minute, "bin/codexctl", load...)
		if err != nil || !regexp.MustCompile(
			`\b0 images put into the engine, [1-9]\d* were there`).MatchString(said) {
			t.Errorf("load says %s, %v", said, err)
		}
		nothingChanges()
		sameContainers(t, before, island.containers(t, stack))
	})

	island.must(t, 5*time.Minute, "bin/codexctl", "down", stack)
	island.must(t, 5*time.Minute, "bin/codexctl", "up", stack)
	b.run(t, time.Minute, chromedp.Reload())
	b.waitFor(t, time.Minute, "the conversation after down and up",
		"document.body.innerText.includes("+js(answer)+")")
	island.must(t, 5*time.Minute, "bin/codexctl", "down", "--volumes", "--yes", stack)
}

// newIsland is an empty folder on a machine of its own, as far as an engine and a network namespace
// make one. What listens on the address there is reached on the same address here.
func newIsland(t *testing.T, address string) *checkout {
	t.Helper()
	for _, tool := range []string{"ip", "nsenter", "dockerd", "docker"} {
		peers.Find(t, "docker", tool)
	}
	if os.Getuid() != 0 {
		t.Skip("only root may make a network namespace")
	}

	const name = "codexcontinue-island"
	const file = "/run/netns/" + name
	_ = exec.Command("ip", "netns", "del", name).Run() // of an earlier run that was killed
	command(t, "ip", "netns", "add", name)
	t.Cleanup(func() { command(t, "ip", "netns", "del", name) })
	enter := []string{"nsenter", "--net=" + file}
	command(t, enter[0], enter[1], "ip", "link", "set", "lo", "up")

	engine := t.TempDir()
	socket := "unix://" + filepath.Join(engine, "docker.sock")
	log, err := os.Create(filepath.Join(engine, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()

	dockerd := exec.Command(enter[0], enter[1], "dockerd", "--host", socket,
		"--data-root", filepath.Join(engine, "data"), "--exec-root", filepath.Join(engine, "run"),
		"--pidfile", filepath.Join(engine, "pid"))
	dockerd.Stdout, dockerd.Stderr = log, log
	if err := dockerd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = dockerd.Process.Signal(os.Interrupt)
		_ = dockerd.Wait()
	})

	for start := time.Now(); exec.Command("docker", "--host", socket, "version").Run() != nil; {
		if time.Since(start) > 2*time.Minute {
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("the island's engine does not answer:\n%s", tail(string(text), 20))
		}
		time.Sleep(100 * time.Millisecond)
	}

	relay(t, address, file)
	c := newHome(t, "DOCKER_HOST="+socket)
	c.within = enter
	return c
}

func command(t *testing.T, line ...string) {
	t.Helper()
	if out, err := exec.Command(line[0], line[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(line, " "), err, out)
	}
}

// relay listens on the address, and connects what comes to the same one in the namespace.
func relay(t *testing.T, address, namespace string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })

	go func() {
		for {
			here, err := l.Accept()
			if err != nil {
				return
			}

			go func() {
				defer here.Close()
				there, err := dialIn(namespace, address)
				if err != nil {
					return // nothing listens there
				}
				defer there.Close()

				ended := make(chan struct{}, 2)
				for _, way := range [][2]net.Conn{{here, there}, {there, here}} {
					go func() {
						_, _ = io.Copy(way[0], way[1])
						ended <- struct{}{}
					}()
				}
				<-ended
			}()
		}
	}()
}

// dialIn connects to the address in the network namespace of that file.
func dialIn(namespace, address string) (conn net.Conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for ever: the thread ends with the goroutine

		f, openErr := os.Open(namespace)
		if openErr != nil {
			err = openErr
			return
		}
		defer f.Close()

		if err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err == nil {
			conn, err = net.Dial("tcp4", address)
		}
	}()
	<-done
	return conn, err
}
