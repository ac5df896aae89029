package engine

import (
	"context"
	"fmt"
	"strings"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
)

// Replicas lists the replicas of a service, or of all services if service is empty.
func (e *Engine) Replicas(ctx context.Context, service string) ([]running.Replica, error) {
	list, err := e.Containers(ctx, service)
	if err != nil {
		return nil, err
	}

	var out []running.Replica
	for _, c := range list {
		image, err := e.ImageName(ctx, c)
		if err != nil {
			return nil, err
		}
		out = append(out, c.replica(image))
	}

	return out, nil
}

func (c Container) replica(image string) running.Replica {
	r := running.Replica{
		ID:        c.ID,
		Name:      c.Name,
		Service:   c.Service,
		Image:     image,
		State:     c.short(),
		Condition: c.Condition(),
		Healthy:   c.Healthy(),
		Created:   c.State == "created" && c.Error == "",
		Starting:  c.Health == "starting",
		Restarts:  c.Restarts,
		StartedAt: c.StartedAt,
		CPU:       c.CPU,
		Memory:    c.Memory,
		Ports:     c.Ports,
	}
	if c.OOMKilled {
		r.Todo = fmt.Sprintf("give it more: codexcontinue:services: {%s: {memory: ...}} in the "+
			"stack's settings",
			c.Service)
	}

	return r
}

// short returns the container's state in a word.
func (c Container) short() string {
	if c.State == "running" && c.Health != "" {
		return c.Health
	}
	return c.State
}

// Condition describes the container's state to a person.
func (c Container) Condition() string {
	text := c.State
	switch {
	case c.OOMKilled:
		text = fmt.Sprintf("killed: it used more than its %s of memory",
			console.Size(int64(c.Memory)))
	case c.State == "exited" || c.State == "dead":
		text = fmt.Sprintf("%s with code %d", c.State, c.ExitCode)
	case c.State == "restarting":
		text = fmt.Sprintf("restarting again and again, last exit code %d", c.ExitCode)
	case c.Health != "":
		text += ", " + c.Health
	}

	if c.Restarts > 0 && c.State != "restarting" {
		text += fmt.Sprintf(", restarted %d times", c.Restarts)
	}
	if c.Error != "" {
		text += ": " + console.Plain(c.Error)
	}

	if c.HealthOutput != "" && c.State == "running" && !c.Healthy() {
		last := c.HealthOutput[strings.LastIndex(c.HealthOutput, "\n")+1:]
		text += "; its health check says: " + console.Plain(last)
	}

	return text
}
