package doctor

import (
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestRootlessPorts holds what an engine of a user needs for the edge's ports.
func TestRootlessPorts(t *testing.T) {
	s := stacks.Stack{Services: []stacks.Service{{Name: stacks.Edge, Ports: []stacks.Port{
		{Name: "https", Container: 8443, Host: 443},
		{Name: "http3", Container: 8443, Host: 443, UDP: true},
		{Name: "http", Container: 8080, Host: 80},
		{Name: "other", Container: 9000},
	}}}}
	got := rootlessPorts(s, 1024)
	if len(got) != 1 || got[0].Status != Fail || !strings.HasSuffix(got[0].Detail, "1024: 80 443") ||
		!strings.Contains(got[0].Fix, "ip_unprivileged_port_start=80 ") {
		t.Errorf("got %+v", got)
	}
	if got := rootlessPorts(s, 80); got != nil {
		t.Errorf("where 80 is every user's: %+v", got)
	}
}
