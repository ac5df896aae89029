package generation

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	requests   *prometheus.CounterVec
	ended      *prometheus.CounterVec
	tokens     *prometheus.CounterVec
	askedAgain prometheus.Counter
	takenOver  *prometheus.CounterVec
	searches   *prometheus.CounterVec
	active     prometheus.Gauge
	readers    prometheus.Gauge
	firstToken prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counters := func(name, help, label string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}

	return &metrics{
		requests: counters("backend_chat_requests_total",
			"Chat messages received, by what became of them: accepted, repeated (known by its key), "+
				"conflict (an answer is being written), refused (by ml), draining, error.",
			"result"),
		ended: counters("backend_generations_total",
			"Answers that this instance wrote, by how they ended: complete, stopped (also by a "+
				"deleted conversation), failed, refused, superseded (another instance took it over), "+
				"released (left to another instance).", "state"),
		tokens: counters("backend_tokens_total",
			"Tokens of complete answers, as the model counted them: read (prompt) and written "+
				"(answer).", "kind"),
		askedAgain: f.NewCounter(prometheus.CounterOpts{
			Name: "backend_ml_retries_total",
			Help: "Requests to ml that were sent again because the one before was cut or not taken.",
		}),
		takenOver: counters("backend_takeovers_total",
			"Answers whose writer was gone, by what became of them: taken, exhausted (interrupted "+
				"too often).", "result"),
		searches: counters("backend_searches_total",
			"Searches of the documents for an answer's sources, by what came of them: found, none, "+
				"failed.", "result"),
		active: gauge("backend_generations_active", "Answers that this instance is writing now."),
		readers: gauge("backend_event_readers",
			"Readers that follow an answer on this instance now."),
		firstToken: f.NewHistogram(prometheus.HistogramOpts{
			Name: "backend_time_to_first_token_seconds",
			Help: "Time from a chat message to the first text of its answer, written where " +
				"readers see it.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120},
		}),
	}
}
