package api_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/mltest"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/sse"
)

// BenchmarkToken is what the backend adds to each token: from the moment ml sends it, over
// HTTP, Redis and HTTP again, to the moment a reader has it. Allocations are of both servers
// and the reader together.
func BenchmarkToken(b *testing.B) {
	i, ml, _ := stack(b)
	next, sent := make(chan bool), make(chan time.Time, 1)
	ml.Chat(func(s *mltest.Stream) {
		for range next {
			sent <- time.Now()
			s.Text("token ")
		}
		s.Done()
	})

	resp := i.do(http.MethodPost, "/api/chat", backendapi.ChatRequest{Message: "Hi"},
		alice.with("Accept", sse.ContentType))
	r := &reader{t: b, resp: resp, events: sse.NewReader(resp.Body)}
	var latencies []time.Duration
	b.ReportAllocs()
	for range 20 { // connections and scripts are loaded
		next <- true
		<-sent
		for r.next().Name != backendapi.EventDelta {
		}
	}

	for b.Loop() {
		if len(latencies)%50000 == 49999 {
			b.Skip("an answer is bounded: use a shorter -benchtime")
		}
		next <- true
		start := <-sent
		r.next()
		latencies = append(latencies, time.Since(start))
	}

	close(next)
	r.rest()
	slices.Sort(latencies)
	b.ReportMetric(float64(latencies[len(latencies)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(latencies[len(latencies)*99/100].Microseconds()), "p99-µs")
}
