package main

import (
	"context"
	"net/http"
)

// streams is how many answers are open at once when memory is measured.
const streams = 100

// openStreams measures what an open answer costs in memory. It starts the services anew and opens
// as many answers as streams. ml writes two at a time while the others wait in its queue, as with a
// model that is slower than its users.
func (b *bench) openStreams(ctx context.Context) error {
	t := b.report.table("Memory of open streams",
		"Resident memory before, with 100 answers open through the gate, and the "+
			"difference for one.",
		"before", "with 100", "per stream")

	for range b.rounds {
		if err := b.streamsRound(ctx, t); err != nil {
			return err
		}
	}

	return nil
}

func (b *bench) streamsRound(ctx context.Context, t *table) error {
	c, err := b.newChain(ctx, "streams")
	if err != nil {
		return err
	}
	defer c.stop()

	all, err := c.all(ctx)
	if err != nil {
		return err
	}

	hops, err := c.hopsOf(ctx)
	if err != nil {
		return err
	}

	gate := hops[4]
	if _, err := gate.ask(ctx); err != nil { // the first answer costs more than a stream
		return err
	}

	measured := []string{"gate", "frontend", "backend"}
	before := map[string]float64{}
	for _, name := range measured {
		if before[name], err = all[name].rss(); err != nil {
			return err
		}
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var open []*http.Response
	defer func() {
		for _, r := range open {
			r.Body.Close()
		}
	}()

	for range streams {
		r, err := gate.open(ctx) // the answer has begun when it returns
		if err != nil {
			return err
		}
		open = append(open, r)
	}

	for _, name := range measured {
		rss, err := all[name].rss()
		if err != nil {
			return err
		}

		r := t.row(name)
		r.add("before", bytesUnit, before[name])
		r.add("with 100", bytesUnit, rss)
		r.add("per stream", kilobytes, (rss-before[name])/streams/1e3)
	}

	return nil
}
