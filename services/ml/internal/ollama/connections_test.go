package ollama_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollama"
	"github.com/ollama/ollama/api"
)

// TestConnections checks that the connection of an answer takes the next requests for some seconds,
// none after that, and is closed soon when nobody uses it: drain waits for it.
func TestConnections(t *testing.T) {
	states := make(chan http.ConnState, 100)
	s := httptest.NewUnstartedServer(says(http.StatusOK, line("Hi")+last))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew || state == http.StateClosed {
			states <- state
		}
	}
	s.Start()
	t.Cleanup(s.Close)

	c := ollama.New(s.URL)
	chat := func() {
		t.Helper()
		err := c.Chat(t.Context(), &api.ChatRequest{}, func(ollama.Token) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	expect := func(what string, want http.ConnState) {
		t.Helper()
		select {
		case got := <-states:
			if got != want {
				t.Fatalf("%s: a connection is %s, want %s", what, got, want)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("%s: no connection is %s", what, want)
		}
	}

	chat()
	expect("the first request", http.StateNew)
	chat()
	c.Age(6 * time.Second)
	chat()
	expect("a request later", http.StateNew) // and none between
	expect("nobody uses the first", http.StateClosed)
	expect("nor the second", http.StateClosed)
}
