package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/services/status"
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
	Model *status.Model `json:"model,omitempty"`

	// Drift says how the model differs from the Modelfile; empty if it does not.
	Drift string `json:"drift,omitempty"`

	// Unready lists the services that the backend cannot use.
	Unready []status.Service `json:"unready,omitempty"`

	// Notes lists the services that work and have something to tell, such as that memory runs out.
	Notes []status.Service `json:"notes,omitempty"`

	// OneOffs are what `codexctl run` runs.
	OneOffs []running.OneOff `json:"oneOffs,omitempty"`

	// Maintenance is what people read instead of the site; nil if they have the site.
	Maintenance *notice `json:"maintenance,omitempty"`

	// Lock is who changes the stack; nil if nobody does.
	Lock *running.Holder `json:"lock,omitempty"`

	// hint tells how to get an address if there is no URL.
	hint string

	// now is when the report was made.
	now time.Time
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

// containerReport is a replica with the addresses of its ports.
type containerReport struct {
	running.Replica
	URLs []string `json:"urls,omitempty"`
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

	once, err := p.OneOffs(ctx)
	if err != nil {
		return nil, err
	}

	r := &report{
		Stack: stack.Name, Services: []serviceReport{}, URL: way.address, OneOffs: once,
		hint: way.hint, now: now,
	}
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
		if i := slices.IndexFunc(c.Ports, func(p running.Port) bool {
			return p.Container == mainPort[c.Service]
		}); i > 0 {
			c.Ports = slices.Concat(c.Ports[i:i+1], c.Ports[:i], c.Ports[i+1:])
		}

		x := containerReport{Replica: c}
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

func (r *report) setModel(s *status.Status, digest string) {
	if s == nil {
		return
	}

	r.Model, r.Drift = &s.Model, drift(s.Model, digest)
	for _, svc := range s.Services {
		switch {
		case svc.Status != status.Ready:
			r.Unready = append(r.Unready, svc)
		case svc.Detail != "":
			r.Notes = append(r.Notes, svc)
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
			if c.Healthy || !c.StartedAt.IsZero() && c.StartedAt.Year() > 1 {
				row[4] = console.Age(r.now.Sub(c.StartedAt))
			}
			row[5] = cores(int64(c.CPU))
			row[6] = console.Size(int64(c.Memory))
		}

		if r.onCluster() {
			rows = append(rows, append(row, s.restarts(), s.nodes()))
			continue
		}

		rows = append(rows, append(row, ""))
		if len(s.Containers) > 0 {
			for i, p := range s.Containers[0].Ports {
				if i > 0 {
					rows = append(rows, make([]string, 8))
				}
				_, rows[len(rows)-1][7], _ = strings.Cut(p.URL(), "://")
			}
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

	for _, s := range r.Notes {
		out.Hanging("note       ", s.Name+": "+console.Plain(s.Detail))
	}

	if n := r.Maintenance; n != nil {
		out.Printf("closed     %s", console.Plain(fmt.Sprintf("by %s, for %s: %s", n.By,
			console.Age(r.now.Sub(n.Since)), n.Message)))
	}

	for _, x := range r.OneOffs {
		text := fmt.Sprintf("run        %s: %s, for %s", x.Service, x.Name,
			console.Age(r.now.Sub(x.StartedAt)))
		if r.now.After(x.Until) {
			text += ", beyond its limit: the next `codexctl up`, `run` or `down` removes it"
		}
		out.Printf("%s", text)
	}

	if m := r.Model; m != nil {
		text := m.Name + ": " + m.State
		if m.Total > 0 && m.State == status.ModelPulling {
			text += fmt.Sprintf(" (%s of %s)", console.Size(m.Completed), console.Size(m.Total))
		}
		if m.Serves != "" {
			text += ", version " + m.Serves
		}
		if m.Evals != nil {
			text += fmt.Sprintf(", %d of %d evals passed", m.Evals.Passed, m.Evals.Total)
		}
		if m.Error != "" {
			text += ", " + console.Plain(m.Error)
		}

		out.Printf("model      %s", text)
	}
	if r.Drift != "" {
		out.Printf("drift      %s", r.Drift)
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

// cores returns a CPU limit in cores, or "" for none.
func cores(milli int64) string {
	if milli == 0 {
		return ""
	}
	return stacks.MilliCPU(milli).Cores()
}
