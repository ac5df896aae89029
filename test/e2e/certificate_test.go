package e2e

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

// replacesCertificate gives the edge of a stack a certificate in the place of its own authority's,
// and then another one. Who is connected goes on by the same connection, and the edge stays. values
// returns the settings with edge.tls.
func replacesCertificate(
	t *testing.T, c *checkout, stack, site string, values func(tls string) string,
) {
	set := func(cert string) {
		t.Helper()
		c.change(t, stack, values("{certificate: "+strconv.Quote(cert)+"}"))
	}
	up := func(key string) {
		t.Helper()
		c.secret(t, stack, "codexcontinue:tlsKey", key)
		said := c.must(t, 10*time.Minute, "bin/codexctl", "up", stack)
		line := strings.Split(key, "\n")[1]
		showsNowhere(t, c, stack, line, map[string]string{"up": said})
	}

	first, firstKey := peers.Certificate(t, publicName)
	set(first)
	up(firstKey)
	showsCertificate(t, site, first)
	noChanges(t, c, stack)

	edge := c.one(t, stack, stacks.Edge)
	end := staysConnected(t, site)
	second, secondKey := peers.Certificate(t, publicName)
	set(second)
	c.refused(t, stack, 5*time.Minute, "codexcontinue:tlsKey: is not the key of edge.tls.certificate")
	showsCertificate(t, site, first)

	up(secondKey)
	showsCertificate(t, site, second)
	if err := end(); err != nil {
		t.Errorf("who was connected: %v", err)
	}
	if after := c.one(t, stack, stacks.Edge); after != edge {
		t.Errorf("the edge is %s, and was %s", after, edge)
	}
	noChanges(t, c, stack)
}

// one returns the ID of the service's only container, and when that was started.
func (c *checkout) one(t *testing.T, stack, service string) string {
	t.Helper()
	list := c.containers(t, stack)[service]
	if len(list) != 1 {
		t.Fatalf("%s has %d containers, want 1", service, len(list))
	}
	return strings.TrimSpace(c.must(t, time.Minute, "docker", "inspect", "-f",
		"{{.Id}} since {{.State.StartedAt}}", list[0].ID))
}

// showsCertificate wants whoever connects to the site to be shown the certificate in PEM.
func showsCertificate(t *testing.T, site, cert string) {
	t.Helper()
	resp, err := (&http.Client{Transport: insecure(), Timeout: time.Minute}).Get(site + "/edge/health")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()

	want, _ := pem.Decode([]byte(cert))
	if !bytes.Equal(resp.TLS.PeerCertificates[0].Raw, want.Bytes) {
		t.Errorf("%s shows another certificate", site)
	}
}

// staysConnected asks the site four times a second by one connection, until the function that it
// returns is called. That returns why the connection did not last.
func staysConnected(t *testing.T, site string) (end func() error) {
	t.Helper()
	client := &http.Client{Transport: insecure(), Timeout: time.Minute}
	ask := func(reused bool) error {
		var is bool
		trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { is = i.Reused }}
		req, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace),
			http.MethodGet, site+"/edge/health", nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()

		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return err
		}
		switch {
		case resp.StatusCode != http.StatusOK:
			return fmt.Errorf("the site says %s", resp.Status)
		case is != reused:
			return errors.New("the connection was not kept")
		}
		return nil
	}

	if err := ask(false); err != nil {
		t.Fatal(err)
	}
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				ended <- nil
				return
			case <-tick.C:
			}
			if err := ask(true); err != nil {
				ended <- err
				return
			}
		}
	}()

	return func() error { close(stop); return <-ended }
}
