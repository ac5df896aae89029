package e2e

import (
	"context"
	"net/http"
	"os"
	"time"

	"github.com/codexcontinue/codexcontinue/test/load/chaos"
)

// crashVariable allows killing the engine of this machine with all that runs on it:
// .ci/run sets it where it has started the engine itself.
const crashVariable = "CODEXCONTINUE_CRASH_ENGINE"

// backFor is how long it may take until an engine that was started again shows the page.
const backFor = time.Minute

// crashes kills the engine twice, with everything that it runs, while people chat, and starts it
// again: everything comes back with no hand on it, and goes on.
func (l *loaded) crashes() {
	l.t.Helper()
	if os.Getenv(crashVariable) == "" {
		l.t.Logf("the engine is not killed: %s is not set", crashVariable)
		return
	}

	engine, err := chaos.FindEngine()
	if err != nil {
		l.t.Fatal(err)
	}

	l.start(dockerURL)
	l.run.EdgeAway(true)
	for range 2 {
		l.mark("engine killed")
		l.crash(engine)
		l.done()
		time.Sleep(5 * time.Second) // answers have just gone on
	}

	time.Sleep(10 * time.Second)
	if err := l.stop().Lost(); err != nil {
		l.t.Error(err)
	}
}

// crash kills the engine once and waits until all is as before.
func (l *loaded) crash(engine *chaos.Engine) {
	l.t.Helper()
	// Whatever happens, the tests behind this one find an engine.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.t.Context()), 2*time.Minute)
	defer cancel()
	n, err := engine.Kill(ctx)
	killed := time.Now()
	if startErr := engine.Start(ctx); err != nil || startErr != nil {
		l.t.Fatal(err, startErr)
	}

	answers := time.Since(killed)
	lacks := shown(ctx, dockerURL)
	took := time.Since(killed)
	l.t.Logf("%d processes killed; the engine answered after %.1f s, the page after %.1f s",
		n, answers.Seconds(), took.Seconds())
	if lacks != nil || took > backFor {
		l.t.Fatalf("the page is not back after %s: %v", took, lacks)
	}

	modelReady(l.t, dockerURL)
}

// shown returns when there is a page.
func shown(ctx context.Context, url string) error {
	client := http.Client{Timeout: 5 * time.Second}
	for {
		resp, err := client.Get(url)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}

		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}
