package hop

import (
	"context"
	"time"
)

// Resolve makes the client find the hosts for its peer's name.
func (c *Client) Resolve(hosts ...string) {
	c.resender.dialer.lookup = func(context.Context, string) ([]string, error) { return hosts, nil }
}

// Failed makes the client believe that its peer did not answer then.
func (c *Client) Failed(at time.Time) { c.resender.outage.Failed(at) }
