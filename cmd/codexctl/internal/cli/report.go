package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/modelwait"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// report is what status prints, and up at its end. Its JSON form is for programs: fields are
// added, never changed.
type report struct {
	Stack string `json:"stack"`

	// Healthy reports whether every container of the stack runs and is healthy.
	Healthy bool `json:"healthy"`

	// URL is the address for people; empty if nothing is published.
	URL      string          `json:"url,omitempty"`
	Services []serviceReport `json:"services"`

	// Model is the progress of the model; nil if the stack does not answer.
	Model *modelwait.Model `json:"model,omitempty"`

	// Unready lists the services that the backend cannot use.
	Unready []modelwait.Service `json:"unready,omitempty"`

	// hint tells how to get an address if there is no URL.
	hint string
}

type serviceReport struct {
	Name string `json:"name"`

	// Healthy counts the healthy containers, Replicas those that the stack asks for.
	Healthy  int `json:"healthy"`
	Replicas int `json:"replicas"`

	// Health is the state of the container that is worst off, such as healthy, starting or
	// exited, or "missing".
	Health     string            `json:"health"`
	Image      string            `json:"image"`
	Containers []containerReport `json:"containers"`
}

type containerReport struct {
	Name      string    `json:"name"`
	ID        string    `json:"id"`
	Condition string    `json:"condition"`
	StartedAt time.Time `json:"startedAt"`

	// CPU is in thousandths of a core, Memory in bytes.
	CPU    int64    `json:"cpuMilli"`
	Memory int64    `json:"memoryBytes"`
	URLs   []string `json:"urls,omitempty"`

	// Restarts counts the restarts of the container. Node is the cluster's machine that it runs on.
	Restarts int    `json:"restarts"`
	Node     string `json:"node,omitempty"`

	healthy bool
	ports   []running.Port
	uptime  time.Duration
}

// collect asks the platform about every service of the stack, and about those that run
// but are no longer in it.
func collect(
	ctx context.Context, p platform, stack stacks.Stack, way edge, now time.Time,
) (*report, error) {
	list, err := p.Replicas(ctx, "")
	if err != nil {
		return nil, err
	}

	r := &report{Stack: stack.Name, Services: []serviceReport{}, URL: way.address, hint: way.hint}
	index := map[string]int{}
	row := func(name string) *serviceReport {
		i, ok := index[name]
		if !ok {
			i = len(r.Services)
			index[name] = i
			r.Services = append(r.Services, serviceReport{
				Name:       name,
				Health:     "missing",
				Containers: []containerReport{},
			})
		}

		return &r.Services[i]
	}

	mainPort := map[string]int{} // the port of the service itself, not of its debugger
	for _, svc := range stack.Services {
		row(svc.Name).Replicas = svc.Replicas
		if len(svc.Ports) > 0 {
			mainPort[svc.Name] = svc.Ports[0].Container
		}
	}

	for _, c := range list {
		s := row(c.Service)
		slices.SortStableFunc(c.Ports, func(a, b running.Port) int {
			return boolOrder(a.Container != mainPort[c.Service], b.Container != mainPort[c.Service])
		})
		x := containerReport{
			Name:      c.Name,
			ID:        c.ID,
			Condition: c.Condition,
			StartedAt: c.StartedAt,
			healthy:   c.Healthy,
			CPU:       int64(c.CPU),
			Memory:    int64(c.Memory),
			Restarts:  c.Restarts,
			Node:      c.Node,
			ports:     c.Ports,
			uptime:    now.Sub(c.StartedAt),
		}

		for _, p := range c.Ports {
			x.URLs = append(x.URLs, p.URL())
		}

		if c.Healthy {
			s.Healthy++
		}
		if s.Health == "missing" || !c.Healthy {
			s.Health = c.State
		}

		s.Image, s.Containers = c.Image, append(s.Containers, x)
	}

	for i := range r.Services {
		if s := &r.Services[i]; s.Health == "healthy" && len(s.Containers) < s.Replicas {
			s.Health = "missing"
		}
	}

	r.Healthy = r.allHealthy()
	return r, nil
}

func boolOrder(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func (r *report) setModel(s *modelwait.Status) {
	if s == nil {
		return
	}

	r.Model = &s.Model
	for _, svc := range s.Services {
		if svc.Status != "ready" {
			r.Unready = append(r.Unready, svc)
		}
	}
}

// allHealthy reports whether every service has all its replicas, healthy.
func (r *report) allHealthy() bool {
	for _, s := range r.Services {
		if s.Healthy < s.Replicas || s.Health != "healthy" && s.Health != "running" {
			return false
		}
	}
	return len(r.Services) > 0
}

// print writes the report as a table of at most 80 columns.
func (r *report) print(out *console.Console) {
	rows := [][]string{append(slices.Clone(common), "ADDRESS")}
	if r.onCluster() {
		rows[0] = append(slices.Clone(common), "RESTARTS", "NODE")
	}

	for _, s := range r.Services {
		row := []string{
			s.Name, fmt.Sprintf("%d/%d", s.Healthy, s.Replicas), s.Health,
			console.Cut(tag(s.Image), 14), "", "", "",
		}
		if len(s.Containers) > 0 {
			c := s.Containers[0]
			if c.healthy || !c.StartedAt.IsZero() && c.StartedAt.Year() > 1 {
				row[4] = console.Age(c.uptime)
			}
			row[5] = cores(c.CPU)
			row[6] = console.Size(c.Memory)
		}

		if r.onCluster() {
			rows = append(rows, append(row, s.restarts(), s.nodes()))
			continue
		}

		var ports []running.Port
		if len(s.Containers) > 0 {
			ports = s.Containers[0].ports
		}

		if len(ports) > 0 {
			rows = append(rows, append(row, address(ports[0])))
		} else {
			rows = append(rows, append(row, ""))
		}

		for _, p := range ports[min(1, len(ports)):] {
			rows = append(rows, []string{"", "", "", "", "", "", "", address(p)})
		}
	}

	out.Table(rows, func(y, x int) console.Paint {
		switch {
		case y == 0:
			return console.Dim
		case x != 2:
			return ""
		}

		switch rows[y][x] {
		case "healthy", "running":
			return console.Green
		case "starting", "created":
			return console.Yellow
		}

		return console.Red
	})

	for _, s := range r.Unready {
		out.Printf("not ready: %s",
			console.Cut(strings.TrimSpace(s.Name+": "+s.Status+" "+console.Plain(s.Detail)),
				out.Width()-11))
	}

	if m := r.Model; m != nil {
		text := m.Name + ": " + m.State
		if m.Total > 0 && m.State == "pulling" {
			text += fmt.Sprintf(" (%s of %s)", console.Size(m.Completed), console.Size(m.Total))
		}
		if m.Error != "" {
			text += ", " + console.Plain(m.Error)
		}

		out.Printf("model      %s", text)
	}

	switch {
	case r.URL != "":
		out.Printf("address    %s", out.Paint(console.Bold, r.URL))
	case r.hint != "":
		out.Printf("address    %s", r.hint)
	}
}

// common are the columns on every platform. An engine adds the address of a service, a cluster,
// where a service has none by itself, its restarts and node.
var common = []string{"SERVICE", "UP", "HEALTH", "TAG", "FOR", "CPU", "MEMORY"}

func (r *report) onCluster() bool {
	for _, s := range r.Services {
		for _, c := range s.Containers {
			if c.Node != "" {
				return true
			}
		}
	}

	return false
}

// restarts returns the sum of the restarts of all replicas, or "" without any.
func (s serviceReport) restarts() string {
	n := 0
	for _, c := range s.Containers {
		n += c.Restarts
	}

	if len(s.Containers) == 0 {
		return ""
	}

	return strconv.Itoa(n)
}

// nodes returns the name of the replicas' node, or how many nodes they are on.
func (s serviceReport) nodes() string {
	seen := map[string]bool{}
	name := ""
	for _, c := range s.Containers {
		if c.Node != "" {
			seen[c.Node], name = true, c.Node
		}
	}

	if len(seen) > 1 {
		return fmt.Sprintf("%d nodes", len(seen))
	}

	return console.Cut(name, 16)
}

// tag returns the tag of an image, or the image if it has none.
func tag(image string) string {
	if i := strings.LastIndex(image, ":"); i > strings.LastIndex(image, "/") {
		return image[i+1:]
	}
	return image
}

func address(p running.Port) string {
	return strings.TrimPrefix(p.URL(), "http://")
}

// cores returns a CPU limit in cores, or "" for none.
func cores(milli int64) string {
	if milli == 0 {
		return ""
	}
	return stacks.MilliCPU(milli).Cores()
}
