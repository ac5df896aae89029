package targets_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/infra/docker"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// container are the arguments of a docker.Container.
type container struct {
	Entrypoints, Command, Envs, SecurityOpts []string
	User                                     string
	ReadOnly, Privileged                     bool
	Capabilities                             struct{ Drops, Adds []string }
	Memory, MemorySwap, CPUPeriod, CPUQuota  int
	StopTimeout, DestroyGraceSeconds         int
	Healthcheck                              struct {
		Tests             []string
		Interval, Timeout string
		Retries           int
	}
	Mounts []struct {
		Type, Source, Target string
		ReadOnly             bool
	}
	Volumes []struct {
		ContainerPath, FromContainer string
		ReadOnly                     bool
	}
	Tmpfs map[string]string
	Ports []struct {
		Internal, External int
		IP                 string
	}
	NetworksAdvanced []struct {
		Name    string
		Aliases []string
	}
	Labels []struct{ Label, Value string }
}

func (c container) label(name string) string {
	for _, l := range c.Labels {
		if l.Label == name {
			return l.Value
		}
	}
	return ""
}

// engine is what has to be known of a plan for an engine before a container of it can be read.
type engine struct {
	recording
	containers map[string][]container // by service

	// images by the component, volumes by their physical name, networks that nothing leaves, the
	// service of each container resource.
	images, volumes map[string]string
	internal        map[string]bool
	serviceOf       map[string]string
}

func decode(t *testing.T, r plan.Resource, into any) {
	t.Helper()
	text, err := json.Marshal(r.Inputs)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatalf("%s %s: %v", r.Type, r.Name, err)
	}
}

// dockerFacts reads a plan for an engine.
func dockerFacts(t *testing.T, rec recording) facts {
	t.Helper()
	e := engine{recording: rec, containers: map[string][]container{}, images: map[string]string{},
		volumes: map[string]string{}, internal: map[string]bool{}, serviceOf: map[string]string{}}
	waits := map[string][]string{}
	for _, r := range rec.resources {
		name, _ := r.Inputs["name"].(string)
		switch kind := r.Type[strings.LastIndex(r.Type, ":")+1:]; kind {
		case "Image":
			e.images[r.Parent], _ = r.Inputs["imageName"].(string)
		case "RemoteImage":
			e.images[r.Parent] = name
		case "Network":
			options, _ := r.Inputs["options"].(map[string]any)
			e.internal[name] = r.Inputs["internal"] == true ||
				options[docker.SourceAddress] == docker.Nowhere
		case "Volume":
			e.volumes[name] = r.Name
		case "Container":
			var c container
			if r.Inputs["uploads"] != nil { // may be a secret as a whole
				continue
			}
			decode(t, r, &c)
			e.serviceOf[r.Type+" "+r.Name] = c.label(stacks.LabelService)
		}
	}

	f := facts{}
	for _, r := range rec.resources {
		service := e.serviceOf[r.Type+" "+r.Name]
		if service == "" {
			continue
		}

		var c container
		decode(t, r, &c)
		e.containers[service] = append(e.containers[service], c)
		f.set(service+"/image", e.images[r.Parent])
		for _, d := range r.Options.DependsOn {
			if of := e.serviceOf[d]; of != "" {
				waits[service] = append(waits[service], of)
			}
		}
	}

	for service, list := range e.containers {
		f.set(service+"/replicas", strconv.Itoa(len(list)))
		f.set(service+"/waits for", words(unique(waits[service])))
		for _, c := range list {
			e.add(t, f, service, c)
		}
		e.addFiles(f, service)
		e.addReach(f, service)
	}

	return f
}

func (e engine) add(t *testing.T, f facts, service string, c container) {
	t.Helper()
	f.set(service+"/command", words(slices.Concat(c.Entrypoints, c.Command)))
	f.addEnvironment(service, environment(c))
	f.set(service+"/cpu", fmt.Sprint(1000*c.CPUQuota/max(c.CPUPeriod, 1), "m"))
	f.set(service+"/memory", fmt.Sprint(c.Memory, "Mi"))
	f.set(service+"/swap", fmt.Sprint(c.Memory != c.MemorySwap))
	f.set(service+"/pids", c.label(docker.LabelPIDs))
	f.set(service+"/user", c.User)
	f.set(service+"/read-only root", fmt.Sprint(c.ReadOnly))
	f.set(service+"/privileged", fmt.Sprint(c.Privileged))
	f.set(service+"/new privileges",
		fmt.Sprint(!slices.Contains(c.SecurityOpts, "no-new-privileges:true")))
	f.set(service+"/capabilities", capabilities(c.Capabilities.Drops, c.Capabilities.Adds))
	f.set(service+"/stop grace", fmt.Sprint(c.StopTimeout, "s"))
	if c.DestroyGraceSeconds != c.StopTimeout {
		f.set(service+"/stop grace", fmt.Sprint(c.DestroyGraceSeconds, "s"))
	}

	f.set(service+"/health/asks", e.asks(t, service, c))
	f.set(service+"/health/every", span(t, c.Healthcheck.Interval))
	f.set(service+"/health/timeout", span(t, c.Healthcheck.Timeout))
	f.set(service+"/health/retries", strconv.Itoa(c.Healthcheck.Retries))
	for _, m := range c.Mounts {
		at := service + "/mount " + m.Target
		switch {
		case m.Type == "volume":
			f.set(at, fmt.Sprintf("volume %s, read-only %v", e.volumes[m.Source], m.ReadOnly))
		case m.Type == "bind":
			from, err := filepath.Rel(e.root, m.Source)
			if err != nil {
				t.Fatal(err)
			}

			f.set(at, fmt.Sprintf("folder %s, read-only %v", from, m.ReadOnly))
		}
	}

	for target, options := range c.Tmpfs {
		list := strings.Split(options, ",")
		size := ""
		for _, o := range list {
			if v, ok := strings.CutPrefix(o, "size="); ok {
				size = v
			}
		}

		f.set(service+"/mount "+target,
			fmt.Sprintf("memory of %s bytes, read-only %v", size, slices.Contains(list, "ro")))
		f.set(service+"/programs in "+target, fmt.Sprint(!slices.Contains(list, "noexec")))
	}
}

// asks returns what the health check asks: the address of an HTTP request that its command
// makes, or the command.
func (e engine) asks(t *testing.T, service string, c container) string {
	t.Helper()
	test := c.Healthcheck.Tests
	if len(test) < 2 || test[0] != "CMD" {
		return words(test)
	}

	command := test[1:]
	u, err := url.Parse(command[len(command)-1])
	if err == nil && (u.Scheme == "http" || u.Scheme == "https") {
		return "GET " + u.Path + " at " + u.Port()
	}

	if len(command) == 2 && command[0] == "/"+service && command[1] == "healthcheck" {
		// The service's own command asks its own path at the port it listens on.
		source, err := os.ReadFile(filepath.Join(e.root, "services", service, "main.go"))
		if err != nil {
			t.Fatal(err)
		}

		m := regexp.MustCompile(`server\.Command\{\s*Health:\s+"([^"]+)"`).FindSubmatch(source)
		if m == nil {
			t.Fatalf("services/%s/main.go does not say which path its healthcheck asks", service)
		}

		_, port, _ := strings.Cut(environment(c)["LISTEN_ADDR"], ":")
		return "GET " + string(m[1]) + " at " + port
	}

	return words(command)
}

func environment(c container) map[string]string {
	out := map[string]string{}
	for _, e := range c.Envs {
		name, value, _ := strings.Cut(e, "=")
		out[name] = value
	}
	return out
}

// addFiles adds what the files hold that a carrier has for the service's containers, where
// these mount their folders.
func (e engine) addFiles(f facts, service string) {
	for _, c := range e.containers[service] {
		if len(c.Volumes) != 1 || !c.Volumes[0].ReadOnly || c.Volumes[0].FromContainer == "" {
			return // it mounts no carrier
		}
	}

	for name, content := range e.files[service] {
		f.set(service+"/file "+name, digest(content))
	}
}

// addReach adds who is called, what gets out, and how people get in.
func (e engine) addReach(f facts, service string) {
	var text []string
	networks := map[string]bool{}
	for _, c := range e.containers[service] {
		for _, v := range environment(c) {
			text = append(text, v)
		}

		for _, n := range c.NetworksAdvanced {
			networks[n.Name] = true
		}

		for _, p := range c.Ports {
			who := "everybody"
			if a, err := netip.ParseAddr(p.IP); err == nil && a.IsLoopback() {
				who = "this machine"
			} else if err != nil || !a.IsUnspecified() {
				who = p.IP
			}

			f.set(service+"/published",
				fmt.Sprintf("to %s at %d for %d", who, p.External, p.Internal))
		}
	}

	for _, content := range e.files[service] {
		text = append(text, content)
	}

	var calls, others []string
	for other := range e.containers {
		if other != service {
			others = append(others, other)
		}
	}

	for _, called := range named(strings.Join(text, "\n"), others) {
		name, _, _ := strings.Cut(called, ":")
		if !e.reaches(networks, name) {
			called += " on no common network"
		}
		calls = append(calls, called)
	}

	f.set(service+"/calls", words(unique(calls)))
	for _, other := range others {
		if e.reaches(networks, other) {
			f.set(service+"/may reach "+other, "yes")
		}
	}

	leaves := "nowhere"
	for n := range networks {
		if !e.internal[n] {
			leaves = "anywhere"
		}
	}

	f.set(service+"/leaves to", leaves)
}

// reaches reports whether every container of the service has its name on one of the networks.
func (e engine) reaches(networks map[string]bool, service string) bool {
	for _, c := range e.containers[service] {
		found := false
		for _, n := range c.NetworksAdvanced {
			found = found || networks[n.Name] && slices.Contains(n.Aliases, service)
		}
		if !found {
			return false
		}
	}

	return true
}

func capabilities(drops, adds []string) string {
	var plain []string
	for _, a := range adds {
		plain = append(plain, strings.TrimPrefix(a, "CAP_"))
	}
	return "without " + words(unique(drops)) + ", with " + words(unique(plain))
}

func span(t *testing.T, text string) string {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}
