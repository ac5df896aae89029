package api

import (
	"github.com/codexcontinue/codexcontinue/services/ml/internal/queue"
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	waited, firstToken, speed prometheus.Histogram
	tokens, failures          prometheus.Counter
}

func newMetrics(reg *prometheus.Registry, q *queue.Queue) *metrics {
	seconds := []float64{.001, .005, .01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300}
	m := &metrics{
		waited: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "ml_queue_wait_seconds", Buckets: seconds,
			Help: "Time that an admitted request waited for its turn."}),
		firstToken: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "ml_first_token_seconds", Buckets: seconds,
			Help: "Time from a request's turn to its first token."}),
		speed: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "ml_tokens_per_second",
			Buckets: []float64{1, 2, 5, 10, 20, 30, 50, 75, 100, 150, 200, 400, 1000}, Help: "Tokens written per second of one answer."}),
		tokens:   prometheus.NewCounter(prometheus.CounterOpts{Name: "ml_tokens_total", Help: "Tokens written by models."}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "ml_failures_total", Help: "Requests that failed through no fault of the client."}),
	}
	reg.MustRegister(m.waited, m.firstToken, m.speed, m.tokens, m.failures,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ml_queue_waiting", Help: "Requests that wait for their turn."},
			func() float64 { return float64(q.Waiting()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ml_queue_running", Help: "Requests that are with Ollama."},
			func() float64 { return float64(q.Running()) }))
	return m
}
