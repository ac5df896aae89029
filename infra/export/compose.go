package export

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/codexcontinue/codexcontinue/infra/docker"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/stacks"
	"gopkg.in/yaml.v3"
)

// ComposeFile is the name of the compose file in an export.
const ComposeFile = "compose.yaml"

// Compose exports a stack planned for the target docker as a project of docker compose 2.24 or later: compose.yaml, the
// files that containers mount, and secrets.sh, which makes those that hold secrets. What compose cannot do is said at the
// top of the file: a replica is not created and healthy before the one it replaces goes.
func Compose(s Source) ([]File, error) {
	p, files, err := s.compose()
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	text, err := p.encode()
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	script := composeSecrets(s.Stack)
	header := composeHeader(s.Stack, script != "")
	out := []File{{Path: ComposeFile, Mode: 0o644, Text: header + text}}
	if script != "" {
		out = append(out, File{Path: secretsScriptName, Mode: 0o755, Text: script})
	}
	return append(out, files...), nil
}

// project is a compose file; see https://github.com/compose-spec/compose-spec/blob/main/spec.md.
type project struct {
	Name     string             `yaml:"name"`
	Services ordered[service]   `yaml:"services"`
	Networks ordered[network]   `yaml:"networks,omitempty"`
	Volumes  ordered[volume]    `yaml:"volumes,omitempty"`
	Configs  ordered[mountFile] `yaml:"configs,omitempty"`
	Secrets  ordered[mountFile] `yaml:"secrets,omitempty"`
}

type service struct {
	Image       string            `yaml:"image"`
	Build       *build            `yaml:"build,omitempty"`
	Entrypoint  []string          `yaml:"entrypoint,omitempty,flow"`
	Command     []string          `yaml:"command,omitempty,flow"`
	User        string            `yaml:"user"`
	Environment map[string]string `yaml:"environment,omitempty"`
	Ports       []string          `yaml:"ports,omitempty,flow"`
	Networks    []string          `yaml:"networks,omitempty,flow"`
	Volumes     []mount           `yaml:"volumes,omitempty"`
	Tmpfs       []string          `yaml:"tmpfs,omitempty"`
	Configs     []fileMount       `yaml:"configs,omitempty"`
	Secrets     []fileMount       `yaml:"secrets,omitempty"`
	DependsOn   ordered[waitFor]  `yaml:"depends_on,omitempty"`
	Healthcheck healthcheck       `yaml:"healthcheck"`
	Deploy      *deploy           `yaml:"deploy,omitempty"`
	Memory      string            `yaml:"mem_limit"`
	MemorySwap  string            `yaml:"memswap_limit"`
	CPUPeriod   int64             `yaml:"cpu_period"`
	CPUQuota    int64             `yaml:"cpu_quota"`
	PIDs        int64             `yaml:"pids_limit"`
	ReadOnly    bool              `yaml:"read_only"`
	Privileged  bool              `yaml:"privileged,omitempty"`
	CapDrop     []string          `yaml:"cap_drop,flow"`
	CapAdd      []string          `yaml:"cap_add,omitempty,flow"`
	SecurityOpt []string          `yaml:"security_opt,flow"`
	Init        bool              `yaml:"init"`
	Restart     string            `yaml:"restart"`
	StopGrace   string            `yaml:"stop_grace_period"`
	Logging     logging           `yaml:"logging"`
	Labels      map[string]string `yaml:"labels"`
}

type build struct {
	Context    string            `yaml:"context"`
	Dockerfile string            `yaml:"dockerfile"`
	Target     string            `yaml:"target"`
	Args       map[string]string `yaml:"args,omitempty"`
}

type mount struct {
	Type     string `yaml:"type"`
	Source   string `yaml:"source"`
	Target   string `yaml:"target"`
	ReadOnly bool   `yaml:"read_only,omitempty"`
}

type fileMount struct {
	Source string `yaml:"source"`
	Target string `yaml:"target"`
}

type mountFile struct {
	File string `yaml:"file"`
}

type waitFor struct {
	Condition string `yaml:"condition"`
}

type healthcheck struct {
	Test        []string `yaml:"test,flow"`
	Interval    string   `yaml:"interval"`
	Timeout     string   `yaml:"timeout"`
	StartPeriod string   `yaml:"start_period"`
	Retries     int      `yaml:"retries"`
}

type deploy struct {
	Replicas  int               `yaml:"replicas,omitempty"`
	Resources *deployReservings `yaml:"resources,omitempty"`
}

type deployReservings struct {
	Reservations struct {
		Devices []device `yaml:"devices"`
	} `yaml:"reservations"`
}

type device struct {
	Driver       string   `yaml:"driver"`
	Count        string   `yaml:"count,omitempty"`
	DeviceIDs    []string `yaml:"device_ids,omitempty,flow"`
	Capabilities []string `yaml:"capabilities,flow"`
}

type logging struct {
	Driver  string            `yaml:"driver"`
	Options map[string]string `yaml:"options"`
}

type network struct {
	Name     string            `yaml:"name"`
	Driver   string            `yaml:"driver"`
	Internal bool              `yaml:"internal,omitempty"`
	Labels   map[string]string `yaml:"labels"`
}

type volume struct {
	Name   string            `yaml:"name"`
	Labels map[string]string `yaml:"labels"`
}

// containerInputs are the arguments of a container as the plan records them.
type containerInputs struct {
	Image        string
	Entrypoints  []string
	Command      []string
	Envs         []string
	User         string
	ReadOnly     bool
	Privileged   bool
	Init         bool
	Capabilities struct{ Adds, Drops []string }
	SecurityOpts []string
	Memory       int64
	MemorySwap   int64
	CPUPeriod    int64 `json:"cpuPeriod"`
	CPUQuota     int64 `json:"cpuQuota"`
	Restart      string
	StopTimeout  int
	LogDriver    string
	LogOpts      map[string]string
	Labels       labels
	Tmpfs        map[string]string
	Gpus         string
	Runtime      string
	Healthcheck  struct {
		Tests                          []string
		Interval, Timeout, StartPeriod string
		Retries                        int
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
		IP                 string `json:"ip"`
		Protocol           string
	}
}

// labels are the provider's pairs.
type labels map[string]string

func (l *labels) UnmarshalJSON(text []byte) error {
	var pairs []struct{ Label, Value string }
	if err := json.Unmarshal(text, &pairs); err != nil {
		return err
	}
	*l = labels{}
	for _, p := range pairs {
		(*l)[p.Label] = p.Value
	}
	return nil
}

// composer makes a project of a plan.
type composer struct {
	Source
	project project
	// images, networks and volumes are resources by what containers name them by.
	images            map[string]plan.Resource
	networks, volumes map[string]string
	services          map[string]string // by "type name" of their containers
}

func (s Source) compose() (project, []File, error) {
	c := composer{Source: s, project: project{Name: stacks.Project + "-" + s.Stack.Name},
		images: map[string]plan.Resource{}, networks: map[string]string{}, volumes: map[string]string{}, services: map[string]string{}}
	replicas := map[string]int{}
	first := map[string]plan.Resource{}
	var order []string
	for _, r := range s.Resources {
		switch r.Type {
		case "docker:index/image:Image", "docker:index/remoteImage:RemoteImage":
			c.images[r.Parent] = r
		case "docker:index/network:Network":
			var in struct {
				Name, Driver string
				Internal     bool
				Labels       labels
			}
			if err := decode(r, &in); err != nil {
				return project{}, nil, err
			}
			c.networks[in.Name] = r.Name
			c.project.Networks.add(r.Name, network{Name: in.Name, Driver: in.Driver, Internal: in.Internal, Labels: in.Labels})
		case "docker:index/volume:Volume":
			var in struct {
				Name   string
				Labels labels
			}
			if err := decode(r, &in); err != nil {
				return project{}, nil, err
			}
			c.volumes[in.Name] = r.Name
			c.project.Volumes.add(r.Name, volume{Name: in.Name, Labels: in.Labels})
		case "docker:index/container:Container":
			var in struct{ Labels labels }
			if err := decode(r, &in); err != nil {
				return project{}, nil, err
			}
			name := in.Labels[stacks.LabelService]
			if name == "" {
				continue // carries files; compose mounts them
			}
			if replicas[name]++; replicas[name] == 1 {
				first[name] = r
				order = append(order, name)
			}
			c.services[r.Type+" "+r.Name] = name
		}
	}
	slices.SortFunc(order, func(a, b string) int { return cmp.Compare(c.rank(a), c.rank(b)) })
	for _, name := range order {
		svc, err := c.service(name, first[name], replicas[name])
		if err != nil {
			return project{}, nil, fmt.Errorf("services.%s: %w", name, err)
		}
		c.project.Services.add(name, svc)
	}
	return c.project, c.files(), nil
}

// rank is the place of the service in the stack's description, which is the order that people read.
func (c *composer) rank(name string) int {
	return slices.IndexFunc(c.Stack.Services, func(s stacks.Service) bool { return s.Name == name })
}

func (c *composer) service(name string, r plan.Resource, replicas int) (service, error) {
	var in containerInputs
	if err := decode(r, &in); err != nil {
		return service{}, err
	}
	var err error
	svc := service{
		Entrypoint: in.Entrypoints, Command: in.Command, User: in.User, Environment: map[string]string{},
		Memory: strconv.FormatInt(in.Memory, 10) + "m", MemorySwap: strconv.FormatInt(in.MemorySwap, 10) + "m",
		CPUPeriod: in.CPUPeriod, CPUQuota: in.CPUQuota, ReadOnly: in.ReadOnly, Privileged: in.Privileged,
		CapDrop: in.Capabilities.Drops, SecurityOpt: in.SecurityOpts, Init: in.Init, Restart: in.Restart,
		StopGrace: strconv.Itoa(in.StopTimeout) + "s", Logging: logging{in.LogDriver, in.LogOpts}, Labels: in.Labels,
		Healthcheck: healthcheck{Test: in.Healthcheck.Tests, Interval: in.Healthcheck.Interval, Timeout: in.Healthcheck.Timeout,
			StartPeriod: in.Healthcheck.StartPeriod, Retries: in.Healthcheck.Retries},
	}
	if svc.Image, svc.Build, err = c.image(r.Parent); err != nil {
		return service{}, err
	}
	if svc.PIDs, err = strconv.ParseInt(in.Labels[docker.LabelPIDs], 10, 64); err != nil {
		return service{}, fmt.Errorf("label %s: %w", docker.LabelPIDs, err)
	}
	delete(svc.Labels, docker.LabelPIDs) // stands for what the provider has no argument for
	for _, kv := range in.Envs {
		k, v, _ := strings.Cut(kv, "=")
		svc.Environment[k] = v
	}
	for _, added := range in.Capabilities.Adds {
		svc.CapAdd = append(svc.CapAdd, strings.TrimPrefix(added, "CAP_"))
	}
	for _, p := range in.Ports {
		host := p.IP
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		svc.Ports = append(svc.Ports, fmt.Sprintf("%s:%d:%d", host, p.External, p.Internal))
	}
	for _, n := range in.NetworksAdvanced {
		// Compose makes the service's name its alias itself.
		if !slices.Equal(n.Aliases, []string{name}) {
			return service{}, fmt.Errorf("network %s: the aliases are %v, want the service's name", n.Name, n.Aliases)
		}
		svc.Networks = append(svc.Networks, c.networks[n.Name])
	}
	for _, m := range in.Mounts {
		source := c.volumes[m.Source]
		if m.Type == string(stacks.MountBind) {
			// A document names the root, a plan of this machine has its path.
			path, ok := strings.CutPrefix(m.Source, plan.Root)
			if !ok {
				if path, err = filepath.Rel(c.Root, m.Source); err != nil {
					return service{}, err
				}
			}
			if source, err = c.fromRoot(path); err != nil {
				return service{}, err
			}
		}
		svc.Volumes = append(svc.Volumes, mount{m.Type, source, m.Target, m.ReadOnly})
	}
	for _, target := range slices.Sorted(maps.Keys(in.Tmpfs)) {
		svc.Tmpfs = append(svc.Tmpfs, target+":"+in.Tmpfs[target])
	}
	c.mountFiles(name, &svc)
	waits := map[string]bool{}
	for _, dep := range r.Options.DependsOn {
		if of, ok := c.services[dep]; ok && !waits[of] {
			waits[of] = true
			svc.DependsOn.add(of, waitFor{"service_healthy"})
		}
	}
	if replicas > 1 {
		svc.Deploy = &deploy{Replicas: replicas}
	}
	c.addGPU(in, &svc)
	return svc, nil
}

// addGPU asks compose for what the plan asks the engine, or the NVIDIA runtime, for.
func (c *composer) addGPU(in containerInputs, svc *service) {
	d := device{Driver: "nvidia", Capabilities: []string{"gpu", "compute", "utility"}}
	switch {
	case in.Gpus == "all":
		d.Count = "all"
	case in.Runtime == "nvidia":
		d.DeviceIDs = strings.Split(svc.Environment["NVIDIA_VISIBLE_DEVICES"], ",")
		delete(svc.Environment, "NVIDIA_VISIBLE_DEVICES")
		delete(svc.Environment, "NVIDIA_DRIVER_CAPABILITIES")
	default:
		return
	}
	if svc.Deploy == nil {
		svc.Deploy = &deploy{}
	}
	svc.Deploy.Resources = &deployReservings{}
	svc.Deploy.Resources.Reservations.Devices = []device{d}
}

// image is the reference and, where the stack builds it, how. Compose builds what is absent under that name.
func (c *composer) image(component string) (string, *build, error) {
	r, ok := c.images[component]
	if !ok {
		return "", nil, fmt.Errorf("the plan has no image below %s", component)
	}
	var in struct {
		Name, ImageName string
		Build           struct {
			Context, Dockerfile, Target string
			Args                        map[string]string
		}
	}
	if err := decode(r, &in); err != nil {
		return "", nil, err
	}
	if in.Name != "" {
		return in.Name, nil, nil
	}
	// Recorded relative to the program's folder, which is below the root.
	context := path.Join("infra", in.Build.Context)
	dockerfile, err := filepath.Rel(context, path.Join("infra", in.Build.Dockerfile))
	if err != nil {
		return "", nil, err
	}
	from, err := c.fromRoot(context)
	if err != nil {
		return "", nil, err
	}
	return in.ImageName, &build{Context: from, Dockerfile: filepath.ToSlash(dockerfile), Target: in.Build.Target, Args: in.Build.Args}, nil
}

// mountFiles mounts the service's files: compose cannot copy into a read-only root, so each is a file beside compose.yaml.
func (c *composer) mountFiles(name string, svc *service) {
	for _, f := range c.Stack.Service(name).Files {
		id := name + "-" + strings.ReplaceAll(strings.TrimPrefix(path.Base(f.Path), "."), ".", "-")
		if f.Secret != "" {
			c.project.Secrets.add(id, mountFile{"./" + secretFile(name, f)})
			svc.Secrets = append(svc.Secrets, fileMount{id, f.Path})
			continue
		}
		c.project.Configs.add(id, mountFile{"./" + configFile(name, f)})
		svc.Configs = append(svc.Configs, fileMount{id, f.Path})
	}
}

func configFile(service string, f stacks.File) string {
	return path.Join("configs", service, path.Base(f.Path))
}
func secretFile(service string, f stacks.File) string {
	return path.Join("secrets", service, path.Base(f.Path))
}

// files are those that no secret is in.
func (c *composer) files() []File {
	var out []File
	for _, svc := range c.Stack.Services {
		for _, f := range svc.Files {
			if f.Secret == "" {
				out = append(out, File{Path: configFile(svc.Name, f), Mode: 0o644, Text: f.Content})
			}
		}
	}
	return out
}

// encode writes the file. Compose replaces variables in every value, so a dollar sign is doubled.
func (p project) encode() (string, error) {
	var doc yaml.Node
	if err := doc.Encode(p); err != nil {
		return "", err
	}
	var escape func(n *yaml.Node)
	escape = func(n *yaml.Node) {
		if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
			n.Value = strings.ReplaceAll(n.Value, "$", "$$")
		}
		for _, c := range n.Content {
			escape(c)
		}
	}
	escape(&doc)
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(&doc); err != nil {
		return "", err
	}
	return out.String(), nil
}

// ordered is a mapping that is written in the order of its making.
type ordered[T any] struct {
	keys   []string
	values []T
}

func (o *ordered[T]) add(key string, value T) {
	o.keys, o.values = append(o.keys, key), append(o.values, value)
}

func (o ordered[T]) IsZero() bool { return len(o.keys) == 0 }

func (o ordered[T]) MarshalYAML() (any, error) {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for i, key := range o.keys {
		var k, v yaml.Node
		k.SetString(key)
		if err := v.Encode(o.values[i]); err != nil {
			return nil, err
		}
		n.Content = append(n.Content, &k, &v)
	}
	return n, nil
}
