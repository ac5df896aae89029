package api

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollamatest"
)

// TestContextIsKnown checks that Ollama is not asked with each question for the context of a model
// that sets none itself.
func TestContextIsKnown(t *testing.T) {
	s := ollamatest.Start(t)
	s.Tiny(t, "m", "")
	to, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}

	var asked atomic.Int32
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.FlushInterval = -1
	between := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/ps" {
			asked.Add(1)
		}
		_ = http.NewResponseController(w).EnableFullDuplex()
		proxy.ServeHTTP(w, r)
	}))

	t.Cleanup(between.Close)

	i := start(t, between.URL, nil)
	counts := make([]int32, 4)
	for n := range counts {
		_, _, _, last := i.chat(t.Context(), chatBody(t, "", nil, user("Hi"))).all()
		if last.Done == nil {
			t.Fatalf("%+v", last)
		}
		counts[n] = asked.Load()
	}

	// The first question loads the model, the second finds it loaded.
	if counts[1] == 0 || counts[3] != counts[1] {
		t.Errorf("Ollama was asked for what it has loaded %v times by then", counts)
	}
}
