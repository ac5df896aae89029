package peers

import (
	"runtime"
	"testing"
)

// TestClaim: a port that a test was given is given to no other before that test has ended.
func TestClaim(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("ports are claimed on Linux alone")
	}

	var port string
	t.Run("while it runs", func(t *testing.T) {
		port = FreePort(t, "127.0.0.1")
		if claim(t, port) {
			t.Error("the port is given away twice")
		}
	})
	if !claim(t, port) {
		t.Error("the port stays claimed after the test has ended")
	}
}
