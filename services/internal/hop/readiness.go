package hop

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/codexcontinue/codexcontinue/services/internal/wire"
)

// Readiness returns the peer's readiness, ready or not. It asks once, as what is wrong now matters.
func (c *Client) Readiness(ctx context.Context) (wire.Readiness, error) {
	req, err := c.request(ctx, http.MethodGet, "/ready", nil)
	if err != nil {
		return wire.Readiness{}, err
	}

	resp, err := (&http.Client{Transport: c.resender.transport}).Do(req)
	if err != nil {
		return wire.Readiness{}, fmt.Errorf("%s: %w", c.peer, err)
	}
	defer resp.Body.Close()

	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusServiceUnavailable {
		return wire.Readiness{}, c.problem(resp)
	}

	var out wire.Readiness
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&out); err != nil ||
		out.Status == "" {
		return wire.Readiness{}, fmt.Errorf("%s: answered %s to /ready without a readiness",
			c.peer, resp.Status)
	}

	return out, nil
}
