package hop

import (
	"context"
	"time"
)

// Resolve makes the client find the hosts for its peer's name.
func (c *Client) Resolve(hosts ...string) {
	c.resender.dialer.lookup = func(context.Context, string) ([]string, error) { return hosts, nil }
}

// SilentSince makes the client believe that its peer has answered nothing since then.
func (c *Client) SilentSince(t time.Time) { c.resender.silent.Store(t.UnixNano()) }
