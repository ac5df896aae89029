package peers

import (
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// RunService builds a service of the repository and runs it, with no other environment, until the
// test ends. It returns when the service answers at the URL with 200. What it writes goes to log.
func RunService(t testing.TB, name string, environ []string, url string, log io.Writer) {
	t.Helper()
	program := filepath.Join(t.TempDir(), name)
	if out, err := exec.Command("go", "build", "-o", program,
		"github.com/codexcontinue/codexcontinue/services/"+name).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	service := exec.Command(program)
	service.Env, service.Stdout, service.Stderr = environ, log, log
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = service.Process.Kill()
		_ = service.Wait()
	})

	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if resp, err := http.Get(url); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not answer at %s", name, url)
		}
	}
}
