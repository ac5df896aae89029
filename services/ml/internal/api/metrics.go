package api

import (
	"github.com/codexcontinue/codexcontinue/services/ml/internal/queue"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/replicas"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	waited, firstToken, speed prometheus.Histogram
	tokens, failures          prometheus.Counter
}

func newMetrics(reg *prometheus.Registry, q *queue.Queue, pool *replicas.Pool) *metrics {
	reg.MustRegister(replicaCollector{pool})
	f := promauto.With(reg)
	histogram := func(name, help string, buckets ...float64) prometheus.Histogram {
		return f.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	}
	gauge := func(name, help string, value func() float64) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}

	gauge("ml_queue_waiting", "Requests here that wait for their turn.",
		func() float64 { return float64(q.Waiting()) })
	gauge("ml_queue_running", "Requests here that have their turn.",
		func() float64 { return float64(q.Running()) })
	gauge("ml_queue_shared",
		"1 while the queue is one with that of all other ml, 0 while this one "+
			"admits its share by itself.", func() float64 { return oneIf(q.Shared()) })
	f.NewCounterFunc(prometheus.CounterOpts{
		Name: "ml_ollama_affinity_moved_total",
		Help: "Requests that did not go to the replica that holds their conversation's prefix, " +
			"because it was full or is another version.",
	}, func() float64 { return float64(pool.Moved()) })

	seconds := []float64{.001, .005, .01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300}
	return &metrics{
		waited: histogram("ml_queue_wait_seconds",
			"Time that an admitted request waited for its turn.", seconds...),
		firstToken: histogram("ml_first_token_seconds",
			"Time from when Ollama was asked to the first token.", seconds...),
		speed: histogram("ml_tokens_per_second", "Tokens written per second of one answer.",
			1, 2, 5, 10, 20, 30, 50, 75, 100, 150, 200, 400, 1000),
		tokens: f.NewCounter(prometheus.CounterOpts{
			Name: "ml_tokens_total", Help: "Tokens written by models.",
		}),
		failures: f.NewCounter(prometheus.CounterOpts{
			Name: "ml_failures_total",
			Help: "Requests that failed through no fault of the client.",
		}),
	}
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// replicaCollector collects the metrics of the replicas of Ollama that are there at the moment:
// those that went leave no series.
type replicaCollector struct{ pool *replicas.Pool }

func replicaDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("ml_ollama_replica_"+name, help, []string{"replica"}, nil)
}

var (
	replicaRunning = replicaDesc("running", "Requests that are with a replica of Ollama.")
	replicaUp      = replicaDesc("up",
		"1 when a replica of Ollama can be reached and does not fail.")
	replicaRequests = replicaDesc("requests_total", "Requests that a replica of Ollama got.")
	replicaFailures = replicaDesc("failures_total",
		"Requests that a replica of Ollama failed before their first token.")
)

// Describe implements prometheus.Collector.
func (c replicaCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		replicaRunning, replicaUp, replicaRequests, replicaFailures,
	} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c replicaCollector) Collect(out chan<- prometheus.Metric) {
	for _, r := range c.pool.Status() {
		send := func(d *prometheus.Desc, kind prometheus.ValueType, value float64) {
			out <- prometheus.MustNewConstMetric(d, kind, value, r.Address)
		}
		send(replicaRunning, prometheus.GaugeValue, float64(r.Running))
		send(replicaUp, prometheus.GaugeValue, oneIf(!r.Away))
		send(replicaRequests, prometheus.CounterValue, float64(r.Requests))
		send(replicaFailures, prometheus.CounterValue, float64(r.Failed))
	}
}
