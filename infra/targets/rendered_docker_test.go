package targets_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/infra/docker"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/google/go-cmp/cmp"
)

// TestProjectIsRegistered checks that what is registered for an engine is what was rendered: of
// every stack, and after each change of a field.
func TestProjectIsRegistered(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}

	for _, name := range stacks.Overlays() {
		t.Run(name, func(t *testing.T) {
			p, err := plan.Of(t.Context(), root, name, plan.OfOptions{Target: stacks.Docker})
			if err != nil {
				t.Fatal(err)
			}
			holdProject(t, p.Stack, root)
		})
	}

	lab := labRoot(t)
	t.Run("lab", func(t *testing.T) { holdProject(t, labStack(t, lab), lab) })
	for i, e := range edits {
		if fate, _ := e.expected(t, stacks.Docker); fate == fateRefused || e.err != "" ||
			e.only == stacks.Kubernetes {
			continue
		}

		t.Run(fmt.Sprintf("%d %s", i, e.field), func(t *testing.T) {
			if e.before != nil {
				holdProject(t, changed(t, lab, e.before), lab)
			}
			holdProject(t, changed(t, lab, e.before, e.change), lab)
		})
	}
}

func holdProject(t *testing.T, stack stacks.Stack, root string) {
	t.Helper()
	rendered, err := docker.Render(os.DirFS(root), stack)
	if err != nil {
		t.Fatal(err)
	}

	rec := recordFacts(t, stack, stacks.Docker, root)
	if d := cmp.Diff(generic(t, withoutFiles(rendered)), generic(t, readBack(t, rec))); d != "" {
		t.Errorf("-rendered +registered:\n%s", d)
	}

	// A carrier hides which of its files are secret, so these are compared by themselves.
	want := map[string]map[string]string{}
	for _, svc := range stack.Services {
		files := map[string]string{}
		for _, f := range svc.Files {
			files[f.Path] = f.Text(recordedPassword)
		}
		for _, m := range svc.Mounts {
			if m.Kind == stacks.MountModel {
				addModel(t, files, stack, root, m.Target)
			}
		}

		c := rendered.Project.Services[svc.Name]
		if len(c.Configs)+len(c.Secrets) != len(files) {
			t.Errorf("%s has %d files, want %d", svc.Name, len(c.Configs)+len(c.Secrets), len(files))
		}
		if len(files) > 0 {
			want[svc.Name] = files
		}
	}

	if d := cmp.Diff(want, rec.files); d != "" {
		t.Errorf("files (-stack +registered):\n%s", d)
	}
}

// addModel adds the files of the stack's model where they are mounted.
func addModel(t *testing.T, files map[string]string, s stacks.Stack, root, target string) {
	t.Helper()
	list, err := s.Model.Files(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		text, err := os.ReadFile(filepath.Join(root, f.Source))
		if err != nil {
			t.Fatal(err)
		}
		files[path.Join(target, f.Path)] = string(text)
	}
}

// withoutFiles returns the rendering without the files of its services.
func withoutFiles(r *docker.Rendering) *docker.Rendering {
	project := *r.Project
	project.Configs, project.Secrets, project.Services = nil, nil, maps.Clone(project.Services)
	for name, c := range project.Services {
		c.Configs, c.Secrets = nil, nil
		project.Services[name] = c
	}

	out := *r
	out.Project = &project
	slices.Sort(out.StopsFirst)
	slices.Sort(out.Retained)
	return &out
}

func generic(t *testing.T, v any) map[string]any {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}

	var out map[string]any
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}

	return out
}

// registeredContainer are the arguments of a container that runs. There are no others.
type registeredContainer struct {
	Image, User, Restart, LogDriver, Gpus, Runtime, NetworkMode string
	Envs, Entrypoints, Command, SecurityOpts, DNS               []string
	Labels                                                      pairs
	ReadOnly, Privileged, Init, Wait, MustRun                   bool
	Capabilities                                                struct{ Drops, Adds []string }
	Memory, MemorySwap, CPUPeriod, CPUQuota                     int64
	DestroyGraceSeconds, StopTimeout                            int
	LogOpts, Tmpfs                                              map[string]string
	Healthcheck                                                 struct {
		Tests                                         []string
		Interval, Timeout, StartPeriod, StartInterval string
		Retries                                       uint64
	}
	Volumes []struct {
		FromContainer string
		ReadOnly      bool
	}
	NetworksAdvanced []struct {
		Name    string
		Aliases []string
	}
	Mounts []struct {
		Type, Source, Target string
		ReadOnly             bool
	}
	Ports []struct {
		Internal, External int
		IP, Protocol       string
	}
}

// pairs are the provider's labels.
type pairs map[string]string

func (p *pairs) UnmarshalJSON(text []byte) error {
	var list []struct{ Label, Value string }
	if err := json.Unmarshal(text, &list); err != nil {
		return err
	}

	*p = pairs{}
	for _, l := range list {
		(*p)[l.Label] = l.Value
	}

	return nil
}

// strictly decodes the inputs of the resource. One that is not known is an error.
func strictly(t *testing.T, r plan.Resource, into any) {
	t.Helper()
	text, err := json.Marshal(r.Inputs)
	if err != nil {
		t.Fatal(err)
	}

	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		t.Errorf("%s %s: %v", r.Type, r.Name, err)
	}
}

// reading reads a project back from what was registered for it.
type reading struct {
	recording
	out *docker.Rendering

	// images are those of the components, services those of the containers, carriers the services
	// that have files.
	images            map[string]types.ServiceConfig
	services          map[string]string
	carriers          map[string]bool
	networks, volumes map[string]string // by physical name
}

// readBack returns the rendering that the registered resources amount to, but for files.
func readBack(t *testing.T, rec recording) *docker.Rendering {
	t.Helper()
	r := reading{
		recording: rec,
		images:    map[string]types.ServiceConfig{},
		services:  map[string]string{},
		carriers:  map[string]bool{},
		networks:  map[string]string{},
		volumes:   map[string]string{},
		out: &docker.Rendering{Project: &types.Project{
			Services: types.Services{}, Networks: types.Networks{}, Volumes: types.Volumes{},
		}},
	}

	for _, res := range rec.resources {
		r.prepare(t, res)
	}

	replicas := map[string]int{}
	for _, res := range rec.resources {
		name := r.services[res.Type+" "+res.Name]
		if name == "" {
			continue
		}

		c := r.container(t, name, res)
		if replicas[name]++; replicas[name] > 1 {
			if d := cmp.Diff(generic(t, r.out.Project.Services[name]), generic(t, c)); d != "" {
				t.Errorf("%s: replicas differ:\n%s", name, d)
			}
			continue
		}

		r.out.Project.Services[name] = c
		if *res.Options.DeleteBeforeReplace {
			r.out.StopsFirst = append(r.out.StopsFirst, name)
		}
	}

	for name, n := range replicas {
		if c := r.out.Project.Services[name]; n > 1 {
			if c.Deploy == nil {
				c.Deploy = &types.DeployConfig{}
			}
			c.Deploy.Replicas = &n
			r.out.Project.Services[name] = c
		}
	}

	slices.Sort(r.out.StopsFirst)
	return r.out
}

// prepare reads what containers refer to.
func (r reading) prepare(t *testing.T, res plan.Resource) {
	t.Helper()
	p := r.out.Project
	switch res.Type[strings.LastIndex(res.Type, ":")+1:] {
	case "Network":
		var in struct {
			Name, Driver string
			Internal     bool
			Options      map[string]string
			Labels       pairs
		}

		strictly(t, res, &in)
		r.networks[in.Name] = res.Name
		p.Networks[res.Name] = types.NetworkConfig{Name: in.Name, Driver: in.Driver,
			Internal: in.Internal, DriverOpts: in.Options, Labels: types.Labels(in.Labels)}
	case "Volume":
		var in struct {
			Name, Driver string
			Labels       pairs
		}

		strictly(t, res, &in)
		r.volumes[in.Name] = res.Name
		p.Volumes[res.Name] = types.VolumeConfig{Name: in.Name, Driver: in.Driver,
			Labels: types.Labels(in.Labels)}
		if res.Options.RetainOnDelete {
			r.out.Retained = append(r.out.Retained, res.Name)
		}
	case "RemoteImage":
		var in struct {
			Name        string
			KeepLocally bool
		}

		strictly(t, res, &in)
		var c types.ServiceConfig
		c.Image = in.Name
		r.images[res.Parent] = c
	case "Image":
		var in struct {
			ImageName                string
			SkipPush, BuildOnPreview bool
			Build                    struct {
				Context, Dockerfile, Target, BuilderVersion, Platform string
				Args                                                  map[string]string
			}
		}

		strictly(t, res, &in)
		if in.BuildOnPreview || !in.SkipPush || in.Build.BuilderVersion != "BuilderBuildKit" ||
			in.Build.Platform != r.stack.Platform() {
			t.Errorf("%s: %+v", res.Name, in)
		}

		folder := path.Join("infra", in.Build.Context) // the provider starts there
		dockerfile, err := filepath.Rel(folder, path.Join("infra", in.Build.Dockerfile))
		if err != nil {
			t.Fatal(err)
		}

		var c types.ServiceConfig
		c.Image, c.Build = in.ImageName, &types.BuildConfig{Context: folder, Dockerfile: dockerfile,
			Target: in.Build.Target}
		for k, v := range in.Build.Args {
			if c.Build.Args == nil {
				c.Build.Args = types.MappingWithEquals{}
			}
			c.Build.Args[k] = &v
		}

		r.images[res.Parent] = c
	case "Container":
		var in struct{ Labels pairs }
		decode(t, plan.Resource{Inputs: map[string]any{"labels": res.Inputs["labels"]}}, &in)
		r.services[res.Type+" "+res.Name] = in.Labels[stacks.LabelService]
		if of := in.Labels[docker.LabelFilesOf]; of != "" {
			r.carriers[of] = true
		}
		p.Name = stacks.Project + "-" + in.Labels[stacks.LabelStack]
	}
}

// container reads a container that runs.
func (r reading) container(t *testing.T, name string, res plan.Resource) types.ServiceConfig {
	t.Helper()
	var in registeredContainer
	strictly(t, res, &in)
	if in.Wait || !in.MustRun || in.NetworkMode != "bridge" ||
		in.Healthcheck.StartInterval != "0s" || in.DestroyGraceSeconds != in.StopTimeout {
		t.Errorf("%s: %+v", res.Name, in)
	}

	for _, v := range in.Volumes {
		if v.FromContainer != plan.Computed || !v.ReadOnly {
			t.Errorf("%s: volumes of %+v", res.Name, v)
		}
	}

	if (len(in.Volumes) == 1) != r.carriers[name] || len(in.Volumes) > 1 {
		t.Errorf("%s mounts %d carriers", res.Name, len(in.Volumes))
	}

	o := res.Options
	if len(o.AfterCreate) != 1 || !slices.Equal(o.AfterCreate, o.AfterUpdate) ||
		!strings.HasSuffix(res.Parent, ":Service "+name) {
		t.Errorf("%s: %+v below %s", res.Name, o, res.Parent)
	}

	c := r.images[res.Parent]
	// What a build made, now or for an earlier release, runs by its reference, the rest by its ID.
	by := plan.Computed
	if r.stack.Service(name).Image.Build != nil {
		by = c.Image
	}
	if in.Image != by {
		t.Errorf("%s runs %s, want %s", res.Name, in.Image, by)
	}

	c.Entrypoint, c.Command, c.User, c.Restart = in.Entrypoints, in.Command, in.User, in.Restart
	c.ReadOnly, c.Privileged, c.Init = in.ReadOnly, in.Privileged, &in.Init
	c.CapDrop, c.SecurityOpt = in.Capabilities.Drops, in.SecurityOpts
	c.MemLimit, c.MemSwapLimit = types.UnitBytes(in.Memory<<20), types.UnitBytes(in.MemorySwap<<20)
	c.CPUPeriod, c.CPUQuota = in.CPUPeriod, in.CPUQuota
	c.StopGracePeriod = new(types.Duration(time.Duration(in.StopTimeout) * time.Second))
	c.Logging = &types.LoggingConfig{Driver: in.LogDriver, Options: types.Options(in.LogOpts)}
	h := in.Healthcheck
	c.HealthCheck = &types.HealthCheckConfig{
		Test:        h.Tests,
		Retries:     &h.Retries,
		Interval:    length(t, h.Interval),
		Timeout:     length(t, h.Timeout),
		StartPeriod: length(t, h.StartPeriod),
	}

	for _, a := range in.Capabilities.Adds {
		c.CapAdd = append(c.CapAdd, strings.TrimPrefix(a, "CAP_"))
	}

	var err error
	if c.PidsLimit, err = strconv.ParseInt(in.Labels[docker.LabelPIDs], 10, 64); err != nil {
		t.Errorf("%s: %v", res.Name, err)
	}

	delete(in.Labels, docker.LabelPIDs)
	c.Labels = types.Labels(in.Labels)
	c.Environment = types.NewMappingWithEquals(in.Envs)
	for _, n := range in.NetworksAdvanced {
		if !slices.Equal(n.Aliases, []string{name}) {
			t.Errorf("%s: aliases %v", res.Name, n.Aliases)
		}
		if c.Networks == nil {
			c.Networks = map[string]*types.ServiceNetworkConfig{}
		}
		c.Networks[r.networks[n.Name]] = nil
	}

	c.DNS = in.DNS
	for _, m := range in.Mounts {
		source := r.volumes[m.Source]
		if m.Type == types.VolumeTypeBind {
			if source, err = filepath.Rel(r.root, m.Source); err != nil {
				t.Fatal(err)
			}
			source = "./" + source
		}

		c.Volumes = append(c.Volumes, types.ServiceVolumeConfig{Type: m.Type, Source: source,
			Target: m.Target, ReadOnly: m.ReadOnly})
	}

	for _, target := range slices.Sorted(maps.Keys(in.Tmpfs)) {
		c.Tmpfs = append(c.Tmpfs, target+":"+in.Tmpfs[target])
	}

	for _, p := range in.Ports {
		c.Ports = append(c.Ports, types.ServicePortConfig{
			Mode:      "ingress",
			Protocol:  p.Protocol,
			HostIP:    p.IP,
			Published: strconv.Itoa(p.External),
			Target:    uint32(p.Internal),
		})
	}

	for _, dep := range res.Options.DependsOn {
		if of := r.services[dep]; of != "" {
			if c.DependsOn == nil {
				c.DependsOn = types.DependsOnConfig{}
			}
			c.DependsOn[of] = types.ServiceDependency{Condition: types.ServiceConditionHealthy,
				Required: true}
		}
	}

	gpus := types.DeviceRequest{
		Driver:       "nvidia",
		Capabilities: []string{"gpu", "compute", "utility"},
	}

	switch devices := c.Environment["NVIDIA_VISIBLE_DEVICES"]; {
	case in.Gpus == "all" && in.Runtime == "":
		gpus.Count = -1
	case in.Gpus == "" && in.Runtime == "nvidia" && devices != nil:
		gpus.IDs = strings.Split(*devices, ",")
		delete(c.Environment, "NVIDIA_VISIBLE_DEVICES")
		delete(c.Environment, "NVIDIA_DRIVER_CAPABILITIES")
	default:
		if in.Gpus != "" || in.Runtime != "" {
			t.Errorf("%s: gpus %q, runtime %q", res.Name, in.Gpus, in.Runtime)
		}
		return c
	}

	c.Deploy = &types.DeployConfig{}
	c.Deploy.Resources.Reservations = &types.Resource{Devices: []types.DeviceRequest{gpus}}
	return c
}

func length(t *testing.T, text string) *types.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return new(types.Duration(d))
}
