package hop

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/codexcontinue/codexcontinue/services/internal/logging"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
)

// Readiness asks the peer's GET /ready once, without retries: what is wrong now is the answer. A
// peer that answers "not ready" is no error: the result says which of its checks failed.
func (c *Client) Readiness(ctx context.Context) (wire.Readiness, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/ready", nil)
	if err != nil {
		return wire.Readiness{}, fmt.Errorf("%s: %w", c.peer, err)
	}
	if id := logging.RequestID(ctx); id != "" {
		req.Header.Set(wire.RequestIDHeader, id)
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
