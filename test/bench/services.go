package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// settle is how long a service idles before its memory is read.
const settle = 2 * time.Second

// services measures each service on its own.
func (b *bench) services(ctx context.Context) error {
	c, err := b.newChain(ctx, "services")
	if err != nil {
		return err
	}
	defer c.stop()

	t := b.report.table("Services",
		"cold start: from exec to the first 200 of the health path. memory: resident, idle. "+
			"binary: static, stripped. image: production, as the engine counts it.",
		"cold start", "memory", "binary", "image")

	all := map[string]*process{}
	for round := range b.rounds {
		for _, name := range own {
			p, err := c.service(ctx, name)
			if err != nil {
				return err
			}
			all[name] = p
			t.row(name).addTime("cold start", milliseconds, p.coldStart)
		}

		if err := awaitReady(ctx, c.url("ml", "/ready")); err != nil {
			return err
		}

		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(settle):
		}

		for _, name := range slices.Backward(own) {
			rss, err := all[name].rss()
			if err != nil {
				return err
			}
			t.row(name).add("memory", bytesUnit, rss)
			all[name].stop()
		}

		b.say("  round %d of %d", round+1, b.rounds)
	}

	for _, name := range own {
		info, err := os.Stat(c.binary(name))
		if err != nil {
			return err
		}
		t.row(name).add("binary", bytesUnit, float64(info.Size()))
	}

	return b.imageSizes(ctx, t)
}

// imageSizes adds the size of the newest production image of each service, if the engine has one.
func (b *bench) imageSizes(ctx context.Context, t *table) error {
	docker, err := b.find("docker", "")
	if err != nil {
		return nil
	}

	for _, name := range own {
		refs, err := b.output(ctx, b.dir, docker, "images", "--format", "{{.Repository}}:{{.Tag}}",
			path.Join(stacks.Project, name))
		if errors.Is(err, context.Canceled) {
			return err
		}

		ref, _, _ := strings.Cut(refs, "\n") // newest first
		if err != nil || ref == "" {
			b.say("  no production image of %s on the engine: its size is not told", name)
			continue
		}

		text, err := b.output(ctx, b.dir, docker, "image", "inspect", "-f", "{{.Size}}", ref)
		if err != nil {
			return err
		}

		size, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("size of %s: %w", ref, err)
		}

		t.row(name).add("image", bytesUnit, size)
	}

	return nil
}
