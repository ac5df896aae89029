package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
)

// TestStatusSlow checks that nobody waits long for the status of a frontend that does not answer.
func TestStatusSlow(t *testing.T) {
	asked, answer := make(chan struct{}, 10), make(chan struct{})
	f := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-answer
	}))
	defer f.Close()
	defer close(answer)
	p := newPublicStatus(hop.New("frontend", f.URL), func(identity.Person) string { return "x" })

	gone, leave := context.WithCancel(t.Context())
	first := make(chan error, 1)
	begin := time.Now()
	go func() {
		_, err := p.get(gone)
		first <- err
	}()

	<-asked
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := p.get(ctx); !errors.Is(err, context.DeadlineExceeded) ||
		time.Since(begin) > statusTime/2 {
		t.Errorf("who waits no more: %v after %s", err, time.Since(begin))
	}

	// The answer is for all, so it is waited for though the first one has gone.
	leave()
	if _, err := p.get(t.Context()); err == nil || time.Since(begin) > 2*statusTime {
		t.Errorf("who waits: %v after %s", err, time.Since(begin))
	}
	if err := <-first; err == nil {
		t.Error("the first one got an answer")
	}
	if n := len(asked); n != 0 {
		t.Errorf("the frontend was asked %d times more", n)
	}
}
