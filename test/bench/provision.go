package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// contender is one way to provision the same stack. Each step is a command line.
type contender struct {
	name                    string
	preview, up, noop, down []string
}

// provisioning measures the life of a stack with codexctl, docker compose and, if its Go language
// host is installed, a plain pulumi.
func (b *bench) provisioning(ctx context.Context) error {
	docker, err := b.find("docker", "install the docker command")
	if err != nil {
		return err
	}

	engine, err := b.output(ctx, b.root, docker, "version", "-f", "{{.Server.Version}}")
	if err != nil {
		return absentError{"the Docker engine",
			"start it, or set DOCKER_HOST: " + tail(err.Error(), 1)}
	}

	program, version, err := b.findCompose(ctx)
	if err != nil {
		return err
	}

	c, err := b.newCheckout(ctx)
	if err != nil {
		return err
	}

	b.report.Versions["docker engine"], b.report.Versions["docker compose"] = engine, version
	if b.report.Versions["pulumi"], err = c.output(ctx, c.dir, c.pulumi, "version"); err != nil {
		return err
	}

	for _, overlay := range b.overlays {
		p := &provision{
			bench:    b,
			checkout: c,
			docker:   docker,
			overlay:  overlay,
			name:     fmt.Sprintf("bench-%d-%s", os.Getpid(), overlay),
		}

		if err := errors.Join(p.measure(ctx, program), p.clean(context.WithoutCancel(ctx))); err != nil {
			return fmt.Errorf("%s: %w", overlay, err)
		}
	}

	return nil
}

// provision is the measurement of one overlay.
type provision struct {
	*bench
	checkout              *checkout
	docker, overlay, name string
	compose               *compose
	contenders            []contender
}

func (p *provision) run(ctx context.Context, argv []string) (time.Duration, error) {
	start := time.Now()
	_, err := p.checkout.output(ctx, p.checkout.dir, argv[0], argv[1:]...)
	return time.Since(start), err
}

func (p *provision) measure(ctx context.Context, program []string) error {
	if err := p.warm(ctx, program); err != nil {
		return err
	}

	columns := []string{"codexctl", "compose", "ratio"}
	note := "up: until every container is healthy. No image is built anew: codexctl asks " +
		"BuildKit about each all the same, compose was given the images and does not. preview is " +
		"compose's --dry-run."
	if p.checkout.languageHost {
		columns = append(columns, "pulumi")
		note += " pulumi: the plain CLI on the same project, which compiles the Go program itself."
	}

	t := p.report.table("Provisioning, "+p.overlay+" stack", note, columns...)
	for round := range p.rounds {
		for i := range p.contenders {
			// The first changes, so that none always finds the machine as the
			// same other one left it.
			if err := p.cycle(ctx, t, p.contenders[(i+round)%len(p.contenders)]); err != nil {
				return err
			}
		}
	}

	t.compare("ratio", "codexctl", "compose")
	return nil
}

// cycle measures one life of the stack.
func (p *provision) cycle(ctx context.Context, t *table, c contender) error {
	for _, step := range []struct {
		name string
		argv []string
	}{{"preview", c.preview}, {"up", c.up}, {"up, no change", c.noop}, {"down", c.down}} {
		took, err := p.run(ctx, step.argv)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", c.name, step.name, err)
		}
		p.say("  %s, %s, %s: %.2f s", p.overlay, c.name, step.name, took.Seconds())
		t.row(step.name).addTime(c.name, seconds, took)
	}

	return nil
}

// warm brings the stack up once with each contender, so that images, models and compiled sources
// are there before anything is timed.
func (p *provision) warm(ctx context.Context, program []string) error {
	stack, err := p.checkout.stack(ctx, p.name, p.overlay)
	if err != nil {
		return err
	}

	ctl, cli := p.checkout.codexctl, p.checkout.pulumi
	ours := contender{
		name:    "codexctl",
		preview: []string{ctl, "preview", p.name},
		up:      []string{ctl, "up", "--no-wait", p.name},
		noop:    []string{ctl, "up", "--no-wait", p.name},
		down:    []string{ctl, "down", p.name},
	}

	p.say("  %s: warming up with codexctl", p.overlay)
	// Only this run waits for the model, so that no timed run has to make it.
	if _, err := p.run(ctx, []string{ctl, "up", p.name}); err != nil {
		return err
	}

	images, err := p.images(ctx, stack)
	if err != nil {
		return err
	}
	if p.compose, err = p.checkout.newCompose(program, stack, p.overlay, images); err != nil {
		return err
	}
	if _, err := p.run(ctx, ours.down); err != nil {
		return err
	}

	theirs := contender{
		name:    "compose",
		preview: p.compose.command("--dry-run", "up", "-d"),
		up:      p.compose.command("up", "-d", "--wait"),
		noop:    p.compose.command("up", "-d", "--wait"),
		down:    p.compose.command("down"),
	}

	p.say("  %s: warming up with docker compose", p.overlay)
	if _, err := p.run(ctx, p.compose.command("create")); err != nil {
		return err
	}
	if err := p.fillCache(ctx, stack, images[stacks.Backend]); err != nil {
		return err
	}
	if _, err := p.run(ctx, theirs.up); err != nil {
		return err
	}
	if err := awaitReady(ctx, edgeURL(stack)+"/api/status"); err != nil {
		return err
	}
	if _, err := p.run(ctx, theirs.down); err != nil {
		return err
	}

	p.contenders = []contender{ours, theirs}
	if p.checkout.languageHost {
		args := []string{"-s", p.name, "--non-interactive"}
		pulumi := func(first ...string) []string {
			return append(append([]string{cli}, first...), args...)
		}
		p.contenders = append(p.contenders, contender{
			name:    "pulumi",
			preview: pulumi("preview"),
			up:      pulumi("up", "--yes", "--skip-preview"),
			noop:    pulumi("up", "--yes", "--skip-preview"),
			down:    pulumi("destroy", "--yes", "--skip-preview"),
		})

		// This compiles the program once.
		if _, err := p.run(ctx, pulumi("preview")); err != nil {
			return err
		}
	}

	return nil
}

// edgeURL returns the address of the stack's edge.
func edgeURL(stack stacks.Stack) string {
	port := stack.Service(stacks.Edge).Ports[0]
	return fmt.Sprintf("http://%s:%d", port.Address, port.Host)
}

// images returns the references of the images in codexctl's containers, by service.
func (p *provision) images(ctx context.Context, stack stacks.Stack) (map[string]string, error) {
	out := map[string]string{}
	for _, svc := range stack.Services {
		if svc.Image.Build == nil {
			out[svc.Name] = svc.Image.Ref
			continue
		}

		ids, err := p.output(ctx, p.dir, p.docker, "ps", "-q", "--filter",
			"label="+stacks.LabelStack+"="+stack.Name,
			"--filter", "label="+stacks.LabelService+"="+svc.Name)
		if err != nil {
			return nil, err
		}

		id, _, _ := strings.Cut(ids, "\n")
		if id == "" {
			return nil, fmt.Errorf("service %s has no container after up", svc.Name)
		}
		if out[svc.Name], err = p.output(ctx, p.dir, p.docker, "inspect", "-f", "{{.Config.Image}}", id); err != nil {
			return nil, err
		}
	}

	return out, nil
}

// fillCache copies what dev has compiled from codexctl's volume to that of compose, which then need
// not compile it again.
func (p *provision) fillCache(ctx context.Context, stack stacks.Stack, image string) error {
	if !slices.ContainsFunc(stack.Volumes, func(v stacks.Volume) bool {
		return v.Name == stacks.GoCache
	}) {
		return nil
	}

	volume := stacks.Project + "-" + stacks.GoCache + "-"
	_, err := p.output(ctx, p.dir, p.docker, "run", "--rm", "--network", "none", "--user", "0:0",
		"--entrypoint", "sh",
		"-v", volume+p.name+":/from:ro", "-v", volume+p.compose.name+":/to", image, "-c",
		"cp -a /from/. /to/")

	return err
}

// clean removes everything of this run from the engine, whatever state a failure or an
// interrupt left it in.
func (p *provision) clean(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	filters := []string{
		"label=" + stacks.LabelStack + "=" + p.name,
		"label=com.docker.compose.project=" + p.name + "-compose",
	}

	var errs []error
	for _, kind := range []struct{ list, remove []string }{
		{[]string{"ps", "-aq"}, []string{"rm", "-fv"}},
		{[]string{"network", "ls", "-q"}, []string{"network", "rm"}},
		{[]string{"volume", "ls", "-q"}, []string{"volume", "rm", "-f"}},
	} {
		for _, filter := range filters {
			ids, err := p.output(ctx, p.dir, p.docker, append(kind.list, "--filter", filter)...)
			if err == nil && ids != "" {
				_, err = p.output(ctx, p.dir, p.docker,
					append(kind.remove, strings.Fields(ids)...)...)
			}
			errs = append(errs, err)
		}
	}

	return errors.Join(errs...)
}
