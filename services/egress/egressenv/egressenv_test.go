package egressenv_test

import (
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/egress/egressenv"
	"github.com/google/go-cmp/cmp"
)

func valid() *egressenv.Config {
	return &egressenv.Config{
		Common: contract.Common{Environment: "healthcare", LogLevel: "info", ListenAddr: ":3128",
			DrainTimeout: time.Minute},
		Destinations: []string{"id.example.com:443", "[2001:db8::1]:8443"},
		Private:      true,
	}
}

func TestRoundTrip(t *testing.T) {
	environ, err := contract.Environ(valid())
	if err != nil {
		t.Fatal(err)
	}

	got, err := contract.Parse[egressenv.Config](environ)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(valid(), &got); d != "" {
		t.Errorf("Parse(Render(x)) != x (-want +got):\n%s", d)
	}
}

func TestValidate(t *testing.T) {
	for _, d := range []string{"id.example.com", ":443", "id.example.com:0", "ID.example.com:443"} {
		c := valid()
		c.Destinations = []string{d}
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), "DESTINATIONS: ") {
			t.Errorf("%q: %v", d, err)
		}
	}
	c := valid()
	c.LogLevel = "loud"
	if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), "LOG_LEVEL: ") {
		t.Errorf("got %v", err)
	}
}
