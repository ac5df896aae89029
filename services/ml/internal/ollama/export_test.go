package ollama

import "time"

// Age makes the connections that take requests older.
func (c *Client) Age(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since = c.since.Add(-by)
}
