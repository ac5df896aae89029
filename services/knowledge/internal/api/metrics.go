package api

import (
	"errors"

	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/library"
	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/parse"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics count what is there and what is done. They name no collection and no document.
type metrics struct {
	searches, adds *prometheus.CounterVec
}

func newMetrics(reg *prometheus.Registry, l *library.Library) *metrics {
	f := promauto.With(reg)
	gauge := func(name, help string, value func() float64) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	gauge("knowledge_documents", "Documents that are there.",
		func() float64 { return float64(l.Count().Documents) })
	gauge("knowledge_passages", "Passages that are there.",
		func() float64 { return float64(l.Count().Passages) })
	gauge("knowledge_pending_passages", "Passages whose vectors are still to be made.",
		func() float64 { return float64(l.Count().Pending) })
	gauge("knowledge_bytes", "Size of the documents as they were added.",
		func() float64 { return float64(l.Count().Bytes) })
	confined := f.NewGaugeVec(prometheus.GaugeOpts{
		Name: "knowledge_parser_confined",
		Help: "Whether (1 or 0) the kernel takes files, and the network, from what reads documents.",
	}, []string{"from"})
	c := parse.Confined()
	for from, taken := range map[string]bool{"files": c.Files, "network": c.Network} {
		value := 0.0
		if taken {
			value = 1
		}
		confined.WithLabelValues(from).Set(value)
	}

	return &metrics{
		searches: f.NewCounterVec(prometheus.CounterOpts{
			Name: "knowledge_searches_total",
			Help: "Searches, by what found the passages: both, or words (alone).",
		}, []string{"by"}),
		adds: f.NewCounterVec(prometheus.CounterOpts{
			Name: "knowledge_adds_total",
			Help: "Documents that were to be added, by type and what came of it: added, refused " +
				"(the document), failed.",
		}, []string{"type", "outcome"}),
	}
}

func (m *metrics) search(wordsAlone bool) {
	by := "both"
	if wordsAlone {
		by = "words"
	}
	m.searches.WithLabelValues(by).Inc()
}

func (m *metrics) add(t parse.Type, err error) {
	outcome := "added"
	var r *parse.Refusal
	switch {
	case errors.As(err, &r):
		outcome = "refused"
	case err != nil:
		outcome = "failed"
	}
	m.adds.WithLabelValues(string(t), outcome).Inc()
}
