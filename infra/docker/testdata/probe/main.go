// Command probe is the service of the integration test: a static binary that listens, answers its
// own health check and shows what the container lets it do. On SIGTERM it takes a second to end, as
// a draining service does.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return serve()
	}

	switch args[0] {
	case "healthcheck":
		c, err := net.DialTimeout("tcp", "127.0.0.1:8080", time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	case "cat":
		b, err := os.ReadFile(args[1])
		fmt.Print(string(b))
		return err
	case "write":
		return os.WriteFile(args[1], []byte(args[2]), 0o600)
	case "lookup":
		ips, err := net.LookupHost(args[1])
		fmt.Println(len(ips))
		return err
	}

	return fmt.Errorf("unknown command %q", args[0])
}

func serve() error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	failed := make(chan error, 1)
	go func() {
		failed <- http.ListenAndServe(":8080", http.HandlerFunc(
			func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, r.URL.Path) }))
	}()
	select {
	case err := <-failed:
		return err
	case <-stop:
		time.Sleep(time.Second)
		fmt.Println("drained")
		return nil
	}
}
