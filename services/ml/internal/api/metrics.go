package api

import (
	"github.com/codexcontinue/codexcontinue/services/ml/internal/queue"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/replicas"
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	waited, firstToken, speed prometheus.Histogram
	tokens, failures          prometheus.Counter
}

func newMetrics(reg *prometheus.Registry, q *queue.Queue, pool *replicas.Pool) *metrics {
	seconds := []float64{.001, .005, .01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300}
	m := &metrics{
		waited: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "ml_queue_wait_seconds",
			Buckets: seconds,
			Help:    "Time that an admitted request waited for its turn.",
		}),
		firstToken: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "ml_first_token_seconds",
			Buckets: seconds,
			Help:    "Time from a request's turn to its first token.",
		}),
		speed: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "ml_tokens_per_second",
			Buckets: []float64{1, 2, 5, 10, 20, 30, 50, 75, 100, 150, 200, 400, 1000},
			Help:    "Tokens written per second of one answer.",
		}),
		tokens: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ml_tokens_total", Help: "Tokens written by models.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ml_failures_total", Help: "Requests that failed through no fault of the client.",
		}),
	}

	reg.MustRegister(replicaCollector{pool},
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "ml_ollama_affinity_moved_total",
			Help: "Requests that did not go to the replica that holds their conversation's " +
				"prefix, because it was full or is another version.",
		},
			func() float64 {
				return float64(pool.Moved())
			}), m.waited, m.firstToken, m.speed, m.tokens, m.failures,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "ml_queue_waiting", Help: "Requests here that wait for their turn.",
		},
			func() float64 { return float64(q.Waiting()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "ml_queue_running", Help: "Requests here that are with Ollama.",
		},
			func() float64 { return float64(q.Running()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "ml_queue_shared",
			Help: "1 while the queue is one with that of all other ml, 0 while this one admits " +
				"its share by itself.",
		},
			func() float64 {
				if q.Shared() {
					return 1
				}
				return 0
			}))

	return m
}

// replicaCollector tells about the replicas of Ollama that are there at the moment: those that
// went leave no series.
type replicaCollector struct{ pool *replicas.Pool }

var (
	replicaRunning = prometheus.NewDesc("ml_ollama_replica_running",
		"Requests that are with a replica of Ollama.", []string{"replica"}, nil)
	replicaUp = prometheus.NewDesc("ml_ollama_replica_up",
		"1 when a replica of Ollama can be reached and does not fail.", []string{"replica"}, nil)
	replicaRequests = prometheus.NewDesc("ml_ollama_replica_requests_total",
		"Requests that a replica of Ollama got.", []string{"replica"}, nil)
	replicaFailures = prometheus.NewDesc("ml_ollama_replica_failures_total",
		"Requests that a replica of Ollama failed before their first token.", []string{"replica"},
		nil)
)

// Describe implements prometheus.Collector.
func (c replicaCollector) Describe(out chan<- *prometheus.Desc) {
	out <- replicaRunning
	out <- replicaUp
	out <- replicaRequests
	out <- replicaFailures
}

// Collect implements prometheus.Collector.
func (c replicaCollector) Collect(out chan<- prometheus.Metric) {
	for _, r := range c.pool.Status() {
		up := 1.0
		if r.Away {
			up = 0
		}

		out <- prometheus.MustNewConstMetric(replicaRunning, prometheus.GaugeValue,
			float64(r.Running), r.Address)
		out <- prometheus.MustNewConstMetric(replicaUp, prometheus.GaugeValue, up, r.Address)
		out <- prometheus.MustNewConstMetric(replicaRequests, prometheus.CounterValue,
			float64(r.Requests), r.Address)
		out <- prometheus.MustNewConstMetric(replicaFailures, prometheus.CounterValue,
			float64(r.Failed), r.Address)
	}
}
