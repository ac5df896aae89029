package peers

import (
	"os"
	"testing"
	"time"
)

// Folder is t.TempDir for a program that is killed: its children, which write there, may go on for a
// moment after it has ended.
func Folder(t testing.TB, prefix string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", prefix)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		deadline := time.Now().Add(20 * time.Second)
		for os.RemoveAll(dir) != nil && time.Now().Before(deadline) {
			time.Sleep(10 * time.Millisecond)
		}
	})
	return dir
}
