package generation

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	requests   *prometheus.CounterVec
	ended      *prometheus.CounterVec
	tokens     *prometheus.CounterVec
	askedAgain prometheus.Counter
	takenOver  *prometheus.CounterVec
	active     prometheus.Gauge
	readers    prometheus.Gauge
	firstToken prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "backend_chat_requests_total",
			Help: "Chat messages received, by what became of them: accepted, repeated (known by its key), " +
				"conflict (an answer is being written), refused (by ml), draining, error.",
		},
			[]string{"result"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "backend_generations_total",
			Help: "Answers that this instance wrote, by how they ended: complete, stopped (also " +
				"by a deleted conversation), failed, refused, " +
				"superseded (another instance took it over), released (left to another instance).",
		},
			[]string{"state"}),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "backend_tokens_total",
			Help: "Tokens of complete answers, as the model counted them: read (prompt) and " +
				"written (answer).",
		},
			[]string{"kind"}),
		askedAgain: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "backend_ml_retries_total",
			Help: "Requests to ml that were sent again because the one before was cut or not taken.",
		}),
		takenOver: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "backend_takeovers_total",
			Help: "Answers whose writer was gone, by what became of them: taken, exhausted " +
				"(interrupted too often).",
		},
			[]string{"result"}),
		active: prometheus.NewGauge(prometheus.GaugeOpts{Name: "backend_generations_active",
			Help: "Answers that this instance is writing now."}),
		readers: prometheus.NewGauge(prometheus.GaugeOpts{Name: "backend_event_readers",
			Help: "Readers that follow an answer on this instance now."}),
		firstToken: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "backend_time_to_first_token_seconds",
			Help: "Time from a chat message to the first text of its answer, written where " +
				"readers see it.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120},
		}),
	}

	reg.MustRegister(m.requests, m.ended, m.tokens, m.askedAgain, m.takenOver, m.active, m.readers,
		m.firstToken)
	return m
}
