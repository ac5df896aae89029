package engine

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"

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
		if c.Image, err = e.ImageName(ctx, c); err != nil {
			return nil, err
		}
		out = append(out, c.Replica)
	}

	return out, nil
}

// setState sets what follows from the container's state on the engine.
func (c *Container) setState(s container.State) {
	health := container.NoHealthcheck
	if s.Health != nil && s.Health.Status != "" {
		health = s.Health.Status
	}

	c.State, c.Running = string(s.Status), s.Status == container.StateRunning
	c.Healthy = c.Running && (health == container.NoHealthcheck || health == container.Healthy)
	if c.Running && health != container.NoHealthcheck {
		c.State = string(health)
	}

	c.StartedAt, _ = time.Parse(time.RFC3339Nano, s.StartedAt)
	c.FinishedAt, _ = time.Parse(time.RFC3339Nano, s.FinishedAt)
	c.Created = s.Status == container.StateCreated && s.Error == ""
	c.Starting = health == container.Starting
	if s.OOMKilled {
		c.Todo = running.MoreMemory(c.Service)
	}

	text := string(s.Status)
	switch {
	case s.OOMKilled:
		text = fmt.Sprintf("killed: it used more than its %s of memory",
			console.Size(int64(c.Memory)))
	case s.Status == container.StateExited || s.Status == container.StateDead:
		text = fmt.Sprintf("%s with code %d", s.Status, s.ExitCode)
	case s.Status == container.StateRestarting:
		text = fmt.Sprintf("restarting again and again, last exit code %d", s.ExitCode)
	case health != container.NoHealthcheck:
		text += ", " + string(health)
	}

	if c.Restarts > 0 && s.Status != container.StateRestarting {
		text += fmt.Sprintf(", restarted %d times", c.Restarts)
	}
	if s.Error != "" {
		text += ": " + console.Plain(s.Error)
	}

	if c.Running && !c.Healthy && len(s.Health.Log) > 0 &&
		s.Health.Log[len(s.Health.Log)-1] != nil {
		output := strings.TrimSpace(s.Health.Log[len(s.Health.Log)-1].Output)
		if last := output[strings.LastIndex(output, "\n")+1:]; last != "" {
			text += "; its health check says: " + console.Plain(last)
		}
	}

	c.Condition = text
}
