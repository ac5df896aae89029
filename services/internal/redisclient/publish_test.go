package redisclient_test

import (
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/redisclient"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
)

// TestPublishFull checks that a Redis without memory takes what services have to know of each other.
func TestPublishFull(t *testing.T) {
	r := redistest.Start(t, "--maxmemory", "1", "--maxmemory-policy", "noeviction")
	client := r.Client(t)
	if err := client.Set(t.Context(), "other", "x", 0).Err(); err == nil {
		t.Fatal("Redis has memory left")
	}

	err := redisclient.Publish(t.Context(), client, "identity:gate:x", "key", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if v := client.Get(t.Context(), "identity:gate:x").Val(); v != "key" {
		t.Errorf("%q is stored", v)
	}
	if left := client.TTL(t.Context(), "identity:gate:x").Val(); left <= 0 || left > time.Minute {
		t.Errorf("it stays for %s", left)
	}
}
