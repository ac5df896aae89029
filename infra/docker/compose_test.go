package docker_test

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/google/go-cmp/cmp"
)

// view is a service as both compose and our plan describe it; durations and sizes are numbers,
// lists are sorted where their order says nothing.
type view struct {
	Image                            string // reference, or "build <dockerfile> <stage> <context>"
	Entrypoint, Command              []string
	Environment                      map[string]string
	User, Restart, LogDriver         string
	ReadOnly, Init, Privileged       bool
	CapDrop, CapAdd, SecurityOpt     []string
	Memory, MemorySwap, PIDs         int64
	MilliCPU                         int64
	StopGrace                        time.Duration
	LogOptions                       map[string]string
	HealthTest                       []string
	Interval, Timeout, StartPeriod   time.Duration
	Retries                          int
	Networks, Ports, Mounts, Depends []string
	DNS                              []string
	Tmpfs                            map[string]string
	Files                            map[string]string // path to content or "[secret]"
	BuildArgs                        map[string]string
	Replicas                         int
	GPUs                             string
}

// composed are the services that the compose files of the shipped stacks must hold. One that came
// later is compared if they hold it.
var composed = []string{"edge", "gate", "frontend", "backend", "ml", "redis", "ollama"}

// TestComposeParity loads the hand-written compose files, base and override, with the official
// loader: what they say is what the plan says, field by field.
func TestComposeParity(t *testing.T) {
	eachStack(t, func(t *testing.T, p planned) {
		files := map[string][]string{
			"lab":        {"lab"},
			"dev":        {"base", "dev"},
			"prod":       {"base", "prod"},
			"healthcare": {"base", "prod", "healthcare"},
		}[p.stack.Name]
		if files == nil {
			t.Skipf("testdata/compose holds no files of %s", p.stack.Name)
		}

		if p.stack.InternalTLS() { // the files are of services that speak plain HTTP
			settings := shippedSettings(t, p.root, p.stack.Name)
			delete(settings.Secrets, stacks.InternalAuthorityKey)
			settings.InternalTLS = new(false)
			var err error
			if p.stack, err = stacks.Load(p.stack.Name, settings, stacks.Checkout{
				FS: os.DirFS(p.root), UID: 1000, GID: 1000, Unlocked: true,
			}); err != nil {
				t.Fatal(err)
			}
			p.resources = mustRecord(t, p.stack, p.root)
		}

		project := loadCompose(t, p, files)
		got, want := planViews(t, p), composeViews(t, project, p.root)
		for _, svc := range p.stack.Services {
			if _, ok := want[svc.Name]; !ok && p.stack.Name != "lab" && !slices.Contains(composed, svc.Name) {
				continue
			}
			if d := cmp.Diff(want[svc.Name], got[svc.Name]); d != "" {
				t.Errorf("services.%s (-compose +plan):\n%s", svc.Name, d)
			}
			delete(want, svc.Name)
		}

		for name := range want {
			t.Errorf("services.%s is in the compose files only", name)
		}

		var networks, internal, volumes []string
		options, wantOptions := map[string]any{}, map[string]any{}
		for _, r := range p.resources {
			switch r.Type {
			case "docker:index/network:Network":
				networks = append(networks, r.Inputs["name"].(string))
				for name, value := range object(r.Inputs["options"]) {
					options[r.Inputs["name"].(string)+" "+name] = value
				}
				if r.Inputs["internal"] == true {
					internal = append(internal, r.Inputs["name"].(string))
				}
			case "docker:index/volume:Volume":
				volumes = append(volumes, r.Inputs["name"].(string))
			}
		}

		var wantNetworks, wantInternal, wantVolumes []string
		for _, n := range project.Networks {
			wantNetworks = append(wantNetworks, n.Name)
			if n.Internal {
				wantInternal = append(wantInternal, n.Name)
			}
			for name, value := range n.DriverOpts {
				wantOptions[n.Name+" "+name] = value
			}
		}

		for _, v := range project.Volumes {
			wantVolumes = append(wantVolumes, v.Name)
		}

		if d := cmp.Diff(wantOptions, options); d != "" {
			t.Errorf("options of networks (-compose +plan):\n%s", d)
		}

		for what, pair := range map[string][2][]string{
			"networks":          {wantNetworks, networks},
			"internal networks": {wantInternal, internal},
			"volumes":           {wantVolumes, volumes},
		} {
			slices.Sort(pair[0])
			slices.Sort(pair[1])
			if d := cmp.Diff(pair[0], pair[1]); d != "" {
				t.Errorf("%s (-compose +plan):\n%s", what, d)
			}
		}
	})
}

// object returns the value as an object, which is empty where there is none.
func object(v any) map[string]any {
	o, _ := v.(map[string]any)
	return o
}

func loadCompose(t *testing.T, p planned, names []string) *types.Project {
	t.Helper()
	var files []string
	for _, name := range names {
		file, err := filepath.Abs(filepath.Join("testdata/compose", name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}

	options, err := cli.NewProjectOptions(files, cli.WithWorkingDirectory(p.root),
		cli.WithName(stacks.Project), cli.WithEnv([]string{
			"STACK=" + p.stack.Name, "MODELFILE_DIGEST=" + p.stack.Model.Digest,
			"EVALS_DIGEST=" + p.stack.Model.Evals,
			"DOMAIN_TEXTS=" + textsOf(p.stack), "REDIS_PASSWORD=" + recordedPassword,
			"GATE_REDIS_PASSWORD=" + recordedPassword,
			"BACKEND_REDIS_PASSWORD=" + recordedPassword,
			"ML_REDIS_PASSWORD=" + recordedPassword,
			"REDIS_AUTH=user backend reset on #" + recordedPassword}))
	if err != nil {
		t.Fatal(err)
	}

	project, err := options.LoadProject(context.Background())
	if err != nil {
		t.Fatal(err)
	}

	return project
}

// textsOf returns the texts of the stack's domain as the frontend gets them. They are no part of the
// parity: testdata/compose has a variable in their place.
func textsOf(s stacks.Stack) string {
	f := s.Service(stacks.Frontend)
	if f == nil {
		return ""
	}
	return f.Files[0].Content
}

func composeViews(t *testing.T, project *types.Project, root string) map[string]view {
	t.Helper()
	out := map[string]view{}
	for name, s := range project.Services {
		v := view{
			Image:       s.Image,
			Entrypoint:  []string(s.Entrypoint),
			Command:     []string(s.Command),
			Environment: map[string]string{},
			User:        s.User,
			Restart:     s.Restart,
			ReadOnly:    s.ReadOnly,
			Init:        s.Init != nil && *s.Init,
			Privileged:  s.Privileged,
			CapDrop:     s.CapDrop,
			DNS:         s.DNS,
			CapAdd:      s.CapAdd,
			SecurityOpt: s.SecurityOpt,
			Memory:      int64(s.MemLimit),
			MemorySwap:  int64(s.MemSwapLimit),
			PIDs:        s.PidsLimit,
			MilliCPU:    1000 * s.CPUQuota / max(s.CPUPeriod, 1),
			StopGrace:   duration(s.StopGracePeriod),
			Tmpfs:       map[string]string{},
			Files:       map[string]string{},
			BuildArgs:   map[string]string{},
			Replicas:    1,
		}
		if s.Build != nil {
			dockerfile, context := s.Build.Dockerfile, relative(t, root, s.Build.Context)
			v.Image = fmt.Sprintf("build %s %s %s", filepath.Join(context, dockerfile),
				s.Build.Target, context)
			for k, value := range s.Build.Args {
				v.BuildArgs[k] = *value
			}
		}

		for k, value := range s.Environment {
			if value != nil {
				v.Environment[k] = *value
			}
		}

		if s.Logging != nil {
			v.LogDriver, v.LogOptions = s.Logging.Driver, s.Logging.Options
		}

		if h := s.HealthCheck; h != nil {
			v.HealthTest, v.Interval = h.Test, duration(h.Interval)
			v.Timeout, v.StartPeriod = duration(h.Timeout), duration(h.StartPeriod)
			if h.Retries != nil {
				v.Retries = int(*h.Retries)
			}
		}

		for n := range s.Networks {
			v.Networks = append(v.Networks, project.Networks[n].Name+" as "+name)
		}

		for _, p := range s.Ports {
			v.Ports = append(v.Ports,
				fmt.Sprintf("%s:%s:%d/%s", p.HostIP, p.Published, p.Target, p.Protocol))
		}

		for _, m := range s.Volumes {
			source := m.Source
			switch m.Type {
			case "volume":
				source = project.Volumes[m.Source].Name
			case "bind":
				source = relative(t, root, m.Source)
			}

			v.Mounts = append(v.Mounts,
				fmt.Sprintf("%s %s at %s read-only %v", m.Type, source, m.Target, m.ReadOnly))
		}

		for _, entry := range s.Tmpfs {
			path, opts, _ := strings.Cut(entry, ":")
			v.Tmpfs[path] = opts
		}

		for dep, how := range s.DependsOn {
			v.Depends = append(v.Depends, dep+" "+how.Condition)
		}

		for _, c := range s.Configs {
			config := project.Configs[c.Source]
			v.Files[c.Target] = config.Content
			if config.File != "" {
				v.Files[c.Target] = readFile(t, config.File)
			}
		}

		for _, c := range s.Secrets {
			target := c.Target
			if target == "" {
				target = c.Source
			}
			if !strings.HasPrefix(target, "/") {
				target = "/run/secrets/" + target
			}

			v.Files[target] = plan.Secret
		}

		if s.Deploy != nil && s.Deploy.Replicas != nil {
			v.Replicas = *s.Deploy.Replicas
		}

		for _, g := range s.Gpus {
			v.GPUs = fmt.Sprintf("%d %v", g.Count, g.IDs)
		}

		out[name] = v.normal()
	}

	return out
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func planViews(t *testing.T, p planned) map[string]view {
	t.Helper()
	containers := containersOf(p.resources)
	images := map[string]plan.Resource{}
	files := map[string]map[string]string{}
	for _, r := range p.resources {
		switch r.Type {
		case "docker:index/image:Image", "docker:index/remoteImage:RemoteImage":
			images[r.Name] = r
		case "docker:index/container:Container":
			of := label(r, "dev.codexcontinue.files-of")
			if of == "" {
				continue
			}

			if files[of] == nil { // live files have a carrier of their own
				files[of] = map[string]string{}
			}
			uploads, ok := r.Inputs["uploads"].([]any)
			if !ok { // secret as a whole: the stack names the files
				for _, svc := range p.stack.Services {
					if svc.Name == of && len(svc.Mounts) > 0 && svc.Mounts[0].Kind == stacks.MountModel {
						list, err := p.stack.Model.Files(os.DirFS(p.root))
						if err != nil {
							t.Fatal(err)
						}
						for _, f := range list {
							files[of][path.Join(svc.Mounts[0].Target, f.Path)] =
								readFile(t, filepath.Join(p.root, f.Source))
						}
					}
					for _, f := range svc.Files {
						if svc.Name == of {
							files[of][f.Path] = f.Content
							if f.Secret != "" {
								files[of][f.Path] = plan.Secret
							}
						}
					}
				}
			}

			for _, u := range uploads {
				upload := u.(map[string]any)
				at := upload["file"].(string)
				if source, ok := upload["source"].(string); ok { // the provider starts in infra
					files[of][at] = readFile(t, filepath.Join(p.root, "infra", source))
				} else {
					files[of][at] = upload["content"].(string)
				}
			}
		}
	}

	out := map[string]view{}
	for name, all := range containers {
		in := all[0].Inputs
		v := view{
			Entrypoint:  texts(in["entrypoints"]),
			Command:     texts(in["command"]),
			Environment: map[string]string{},
			User:        in["user"].(string),
			Restart:     in["restart"].(string),
			LogDriver:   in["logDriver"].(string),
			ReadOnly:    in["readOnly"].(bool),
			Init:        in["init"].(bool),
			Privileged:  in["privileged"].(bool),
			CapDrop:     texts(in["capabilities"].(map[string]any)["drops"]),
			DNS:         texts(in["dns"]),
			SecurityOpt: texts(in["securityOpts"]),
			Memory:      int64(in["memory"].(float64)) << 20,
			MemorySwap:  int64(in["memorySwap"].(float64)) << 20,
			StopGrace:   time.Duration(in["stopTimeout"].(float64)) * time.Second,
			LogOptions:  map[string]string{},
			Tmpfs:       map[string]string{},
			Files:       files[name],
			BuildArgs:   map[string]string{},
			Replicas:    len(all),
		}

		for _, c := range texts(in["capabilities"].(map[string]any)["adds"]) {
			v.CapAdd = append(v.CapAdd, strings.TrimPrefix(c, "CAP_"))
		}

		v.PIDs, _ = strconv.ParseInt(label(all[0], "dev.codexcontinue.pids"), 10, 64)
		v.MilliCPU = int64(1000 * in["cpuQuota"].(float64) / in["cpuPeriod"].(float64))
		v.Image, _ = images[name].Inputs["name"].(string)
		if build, ok := images[name].Inputs["build"].(map[string]any); ok {
			v.Image = fmt.Sprintf("build %s %s %s", fromProgram(build["dockerfile"]),
				build["target"], fromProgram(build["context"]))
			for k, value := range build["args"].(map[string]any) {
				v.BuildArgs[k] = value.(string)
			}
		}

		for _, kv := range texts(in["envs"]) {
			k, value, _ := strings.Cut(kv, "=")
			v.Environment[k] = value
		}

		for k, value := range in["logOpts"].(map[string]any) {
			v.LogOptions[k] = value.(string)
		}

		h := in["healthcheck"].(map[string]any)
		v.HealthTest, v.Retries = texts(h["tests"]), int(h["retries"].(float64))
		for field, text := range map[*time.Duration]any{
			&v.Interval:    h["interval"],
			&v.Timeout:     h["timeout"],
			&v.StartPeriod: h["startPeriod"],
		} {
			d, err := time.ParseDuration(text.(string))
			if err != nil {
				t.Fatal(err)
			}
			*field = d
		}

		for _, n := range in["networksAdvanced"].([]any) {
			network := n.(map[string]any)
			v.Networks = append(v.Networks,
				network["name"].(string)+" as "+strings.Join(texts(network["aliases"]), ","))
		}

		ports, _ := in["ports"].([]any)
		for _, entry := range ports {
			port := entry.(map[string]any)
			v.Ports = append(v.Ports,
				fmt.Sprintf("%v:%v:%v/%v", port["ip"], port["external"], port["internal"],
					port["protocol"]))
		}

		mounts, _ := in["mounts"].([]any)
		for _, entry := range mounts {
			m := entry.(map[string]any)
			source := m["source"].(string)
			if m["type"] == "bind" {
				source = relative(t, p.root, source)
			}

			v.Mounts = append(v.Mounts,
				fmt.Sprintf("%v %v at %v read-only %v", m["type"], source, m["target"],
					m["readOnly"]))
		}

		tmpfs, _ := in["tmpfs"].(map[string]any)
		for path, opts := range tmpfs {
			v.Tmpfs[path] = opts.(string)
		}

		for _, dep := range all[0].Options.DependsOn {
			name, ok := strings.CutPrefix(dep,
				"docker:index/container:Container codexcontinue-"+p.stack.Name+"-")
			if _, known := containers[name]; ok && known {
				v.Depends = append(v.Depends, name+" service_healthy")
			}
		}

		if in["gpus"] == "all" {
			v.GPUs = "-1 []"
		} else if devices := v.Environment["NVIDIA_VISIBLE_DEVICES"]; devices != "" {
			v.GPUs = "0 [" + strings.ReplaceAll(devices, ",", " ") + "]"
			delete(v.Environment, "NVIDIA_VISIBLE_DEVICES")
			delete(v.Environment, "NVIDIA_DRIVER_CAPABILITIES")
		}

		out[name] = v.normal()
	}

	return out
}

// normal sorts what has no order and makes empty equal to absent.
func (v view) normal() view {
	for _, list := range []*[]string{
		&v.CapDrop, &v.CapAdd, &v.SecurityOpt, &v.Networks, &v.Ports, &v.Mounts, &v.Depends,
	} {
		slices.Sort(*list)
	}

	for _, list := range []*[]string{
		&v.Entrypoint, &v.Command, &v.CapDrop, &v.CapAdd, &v.SecurityOpt, &v.Networks, &v.Ports,
		&v.Mounts, &v.Depends,
	} {
		if len(*list) == 0 {
			*list = nil
		}
	}

	if v.Files == nil {
		v.Files = map[string]string{}
	}

	return v
}

func texts(v any) []string {
	list, _ := v.([]any)
	var out []string
	for _, e := range list {
		out = append(out, e.(string))
	}
	return out
}

func duration(d *types.Duration) time.Duration {
	if d == nil {
		return 0
	}
	return time.Duration(*d)
}

// relative is the path from the project's root.
func relative(t *testing.T, root, path string) string {
	t.Helper()
	rel, err := filepath.Rel(root, path)
	if err != nil {
		t.Fatal(err)
	}
	return rel
}

// fromProgram turns a path relative to the program's folder into one relative
// to the project's root.
func fromProgram(path any) string { return filepath.Join("infra", path.(string)) }
