package stacks_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestBounds holds each bound of a service from both sides: what is at it passes, what is one
// beyond it does not.
func TestBounds(t *testing.T) {
	type service = stacks.Service
	scaled := func(set func(*stacks.Autoscale, int)) func(*service, int) {
		return func(s *service, n int) {
			s.Autoscale = &stacks.Autoscale{Min: 2, Max: 3, CPU: 70}
			set(s.Autoscale, n)
		}
	}
	for name, tc := range map[string]struct {
		at           string
		set          func(*service, int)
		fine, beyond []int
	}{
		"replicas": {"replicas", func(s *service, n int) { s.Replicas = n }, []int{1}, []int{0}},
		"cpu": {
			"resources.cpu", func(s *service, n int) { s.Resources.CPU = stacks.MilliCPU(n) },
			[]int{10}, []int{9},
		},
		"memory": {
			"resources.memory", func(s *service, n int) { s.Resources.Memory = stacks.Bytes(n) },
			[]int{6 << 20}, []int{6<<20 - 1},
		},
		"pids": {
			"resources.pids", func(s *service, n int) { s.Resources.PIDs = n }, []int{1}, []int{0},
		},
		"fewest": {
			"autoscale", scaled(func(a *stacks.Autoscale, n int) { a.Min = n }),
			[]int{1, 3}, []int{0, 4},
		},
		"load": {
			"autoscale", scaled(func(a *stacks.Autoscale, n int) { a.CPU = n }),
			[]int{1, 100}, []int{0, 101},
		},
		"GPUs": {
			"gpu", func(s *service, n int) { s.GPU = &stacks.GPU{Count: n} },
			[]int{stacks.AllGPUs, 1}, []int{stacks.AllGPUs - 1, 0},
		},
		"start timeout": {
			"startTimeout", func(s *service, n int) { s.StartTimeout = time.Duration(n) },
			[]int{1}, []int{0},
		},
		"log size": {
			"log", func(s *service, n int) { s.Log.MaxSize = stacks.Bytes(n) }, []int{1}, []int{0},
		},
		"log files": {"log", func(s *service, n int) { s.Log.MaxFiles = n }, []int{1}, []int{0}},
		"user": {
			"security", func(s *service, n int) { s.Security.UID = n }, []int{1}, []int{0},
		},
		"group": {
			"security", func(s *service, n int) { s.Security.GID = n }, []int{1}, []int{0},
		},
		"interval": {
			"health", func(s *service, n int) { s.Health.Interval = time.Duration(n) }, []int{1}, []int{0},
		},
		"timeout": {
			"health", func(s *service, n int) { s.Health.Timeout = time.Duration(n) }, []int{1}, []int{0},
		},
		"retries": {"health", func(s *service, n int) { s.Health.Retries = n }, []int{1}, []int{0}},
		"start period": {
			"health", func(s *service, n int) { s.Health.StartPeriod = time.Duration(n) },
			[]int{0}, []int{-1},
		},
		"outside": {
			"outside", func(s *service, n int) { s.Outside = []stacks.Outside{{Port: n, Reason: "r"}} },
			[]int{1, 65535}, []int{0, 65536},
		},
		"port": {
			"ports.http.container", func(s *service, n int) { s.Ports[0].Container = n },
			[]int{1, 65535}, []int{0, 65536},
		},
		"port of the machine": {
			"ports.http.host", func(s *service, n int) { s.Ports[0].Host = n },
			[]int{1, 65535}, []int{-1, 65536},
		},
		"tmpfs": {
			"mounts./tmp", func(s *service, n int) { s.Mounts[0].Size = stacks.Bytes(n) },
			[]int{1, 128 << 20}, []int{0, 128<<20 + 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			broken := func(n int) bool {
				s := load(t, "prod", withPassword())
				edge := s.Service(stacks.Edge)
				edge.Resources.Memory = 128 * stacks.MiB
				tc.set(edge, n)
				err := s.Validate()
				return err != nil && slices.ContainsFunc(strings.Split(err.Error(), "\n"), func(l string) bool {
					return strings.HasPrefix(l, "services.edge."+tc.at+": ")
				})
			}
			for _, n := range tc.fine {
				if broken(n) {
					t.Errorf("%d is refused", n)
				}
			}
			for _, n := range tc.beyond {
				if !broken(n) {
					t.Errorf("%d is taken", n)
				}
			}
		})
	}
}

// TestIncompleteWaivers holds that each part of a waiver is needed.
func TestIncompleteWaivers(t *testing.T) {
	whole := stacks.Waiver{Rule: "r", Subject: "edge", Reason: "why", Expires: time.Now()}
	for name, remove := range map[string]func(*stacks.Waiver){
		"rule":    func(w *stacks.Waiver) { w.Rule = "" },
		"subject": func(w *stacks.Waiver) { w.Subject = "" },
		"reason":  func(w *stacks.Waiver) { w.Reason = "" },
		"expires": func(w *stacks.Waiver) { w.Expires = time.Time{} },
	} {
		s := load(t, "prod", withPassword())
		s.Waivers = []stacks.Waiver{whole}
		if err := s.Validate(); err != nil {
			t.Fatal(err)
		}
		remove(&s.Waivers[0])
		const want = "needs a rule, a subject, a reason"
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("without its %s: %v", name, err)
		}
	}
}

// TestWriters: a second service may read what the first one writes, and not write to it.
func TestWriters(t *testing.T) {
	for _, readOnly := range []bool{true, false} {
		s := load(t, "prod", withPassword())
		ml := s.Service(stacks.ML)
		ml.Mounts = append(ml.Mounts, stacks.Mount{
			Kind: stacks.MountVolume, Source: stacks.RedisData, Target: "/data", ReadOnly: readOnly,
		})
		if err := s.Validate(); (err == nil) != readOnly {
			t.Errorf("read-only %v: %v", readOnly, err)
		}
	}
}

// TestPathsOfFiles refuses those that are not written in their one form.
func TestPathsOfFiles(t *testing.T) {
	for target, fine := range map[string]bool{
		"/etc/x": true, "/": false, "etc/x": false, "/etc/../x": false, "/etc/x/": false,
	} {
		s := load(t, "prod", withPassword())
		s.Service(stacks.Edge).Mounts[0].Target = target
		if err := s.Validate(); (err == nil) != fine {
			t.Errorf("%s: %v", target, err)
		}
	}
}

// TestQuantities holds the amounts at the ends of what can be written.
func TestQuantities(t *testing.T) {
	for text, want := range map[string]stacks.Bytes{
		"1Ki": 1 << 10, "1Mi": 1 << 20, "1Gi": 1 << 30, "1Ti": 1 << 40,
		"1536Ki": 1536 << 10, "8388607Ti": 8388607 << 40,
	} {
		got, err := stacks.ParseBytes(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%s is %d, written %s, %v", text, got, got, err)
		}
	}
	for b, want := range map[stacks.Bytes]string{0: "0", 1: "1", 1025: "1025"} {
		if b.String() != want {
			t.Errorf("%d is written %s", b, b)
		}
	}
	if b, err := stacks.ParseBytes("8388608Ti"); err == nil {
		t.Errorf("more than can be counted is %d", b)
	}
	for text, want := range map[string]stacks.MilliCPU{"1.500": 1500, "0.05": 50, "2": 2000, "7m": 7} {
		if got, err := stacks.ParseMilliCPU(text); err != nil || got != want {
			t.Errorf("%s is %d, %v", text, got, err)
		}
	}
	if c, err := stacks.ParseMilliCPU("1.5000"); err == nil {
		t.Errorf("ten thousandths are %d", c)
	}
}

// TestDecodeBounds holds what is refused beside what is taken.
func TestDecodeBounds(t *testing.T) {
	for name, tc := range map[string]struct{ key, value, want string }{
		"too far from any key": {"debxyz", "1", "codexcontinue:debxyz: unknown key (valid: "},
		"the lowest port":      {"edge", `{"port": 1}`, ""},
		"the highest port":     {"edge", `{"port": 65535}`, ""},
		"the lowest port - 1": {
			"edge", `{"port": 0}`, "codexcontinue:edge.port: must be from 1 to 65535, got 0",
		},
		"no time to live": {"conversationTTL", "0s", ""},
		"an empty list": {
			"gpu", `{"count": 1, "tolerations": []}`,
			"codexcontinue:gpu.tolerations: must be a list",
		},
		"an empty object": {
			"gpu", `{"count": 1, "nodeSelector": {}}`, "codexcontinue:gpu.nodeSelector: is empty",
		},
		"an empty list of text": {
			"gpu", `{"devices": []}`, "codexcontinue:gpu.devices: must be a list",
		},
		"a class with a namespace": {
			"edge", `{"host": "a.example", "gateway": {"class": "x", "namespace": "y"}}`,
			"codexcontinue:edge.gateway.namespace: is that of a Gateway that is there",
		},
		"a name with a namespace": {
			"edge", `{"host": "a.example", "gateway": {"name": "x", "namespace": "y"}}`, "",
		},
		"an ingress": {"edge", `{"host": "a.example", "ingress": {"class": "x"}}`, ""},
		"fsync":      {"redis", `{"fsync": "always"}`, ""},
		"fsync of a master": {
			"redis", `{"fsync": "always", "master": "m"}`, "codexcontinue:redis.fsync: is for",
		},
		"fsync of a CA": {
			"redis", `{"fsync": "always", "ca": "x"}`, "codexcontinue:redis.fsync: is for",
		},
		"fsync of Sentinels": {
			"redis", `{"fsync": "always", "sentinels": ["a:1"]}`,
			"codexcontinue:redis.fsync: is for",
		},
		"fsync of a Cluster": {
			"redis", `{"fsync": "always", "cluster": ["a:1"]}`, "codexcontinue:redis.fsync: is for",
		},
		"fsync of both kinds": {
			"redis", `{"fsync": "always", "cluster": ["a:1"], "sentinels": ["b:1"]}`,
			"codexcontinue:redis.fsync: is for",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := stacks.DecodeSettings(map[string]string{tc.key: tc.value}, nil)
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got  %v\nwant %s", err, tc.want)
			}
		})
	}
}

// TestAddressesOfRedis refuses one that nothing could connect to.
func TestAddressesOfRedis(t *testing.T) {
	for name, tc := range map[string]struct {
		redis stacks.RedisSettings
		want  string
	}{
		"no port": {
			stacks.RedisSettings{URL: "redis://a"}, "redis.url: is no URL with a host and a port",
		},
		"no URL": {
			stacks.RedisSettings{URL: "redis://a b:1"},
			"redis.url: is no URL with a host and a port",
		},
		"no number": {
			stacks.RedisSettings{URL: "redis://a:1", Cluster: []string{"a:x"}},
			`redis: "a:x" is not host:port`,
		},
		"no separator": {
			stacks.RedisSettings{URL: "redis://a:1", Cluster: []string{"a"}},
			`redis: "a" is not host:port`,
		},
	} {
		v := withPassword()
		v.Redis = &tc.redis
		_, err := stacks.Load("prod", v, checkout())
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %s", name, err, tc.want)
		}
	}
}

// TestVolumeSettings changes the volume that is named, and the mounts of no other.
func TestVolumeSettings(t *testing.T) {
	v := withPassword()
	v.Target = stacks.Kubernetes
	v.Volumes = map[string]stacks.VolumeSettings{stacks.OllamaData: {Class: "fast", Shared: new(true)}}
	s := load(t, "prod", v)
	if volume, _ := s.Volume(stacks.OllamaData); volume.Class != "fast" || !volume.Shared {
		t.Errorf("%+v", volume)
	}
	if volume, _ := s.Volume(stacks.RedisData); volume.Class != "" || volume.Shared {
		t.Errorf("%+v", volume)
	}
	for _, svc := range s.Services {
		for _, m := range svc.Mounts {
			if want := m.Source == stacks.OllamaData || m.Kind == stacks.MountModel; m.ReadOnly != want {
				t.Errorf("%s: %+v", svc.Name, m)
			}
		}
	}
}

// TestStartOrder starts a service after those that it waits for, else in the stack's own order.
func TestStartOrder(t *testing.T) {
	s := stacks.Stack{Services: []stacks.Service{
		{Name: "a", DependsOn: []string{"c", "d"}}, {Name: "b"}, {Name: "c", DependsOn: []string{"d"}},
		{Name: "d"},
	}}
	order, err := s.StartOrder()
	if err != nil {
		t.Fatal(err)
	}
	var names string
	for _, svc := range order {
		names += svc.Name
	}
	if names != "dcab" {
		t.Errorf("they start as %s", names)
	}
	s.Services[3].DependsOn = []string{"e"}
	if _, err := s.StartOrder(); err == nil {
		t.Error("a service starts without one that it waits for")
	}
}

// TestRoutes refuses one that leads nowhere, and one that two objects would route.
func TestRoutes(t *testing.T) {
	gateway, ingress := &stacks.Gateway{Class: "g"}, &stacks.Ingress{Class: "i"}
	for name, tc := range map[string]struct {
		route stacks.Route
		edge  bool
		want  string
	}{
		"by a gateway":  {stacks.Route{Gateway: gateway}, true, ""},
		"by an ingress": {stacks.Route{Ingress: ingress}, true, ""},
		"by nothing":    {stacks.Route{}, true, "route: needs a gateway or an ingress"},
		"by both": {
			stacks.Route{Gateway: gateway, Ingress: ingress}, true, "route: needs a gateway",
		},
		"without the edge": {stacks.Route{Gateway: gateway}, false, "route: leads to the edge"},
	} {
		settings := withPassword()
		settings.SignIn = &stacks.SignInSettings{Accounts: true}
		s := load(t, "prod", settings)
		tc.route.Host = "chat.example.com"
		s.Route = &tc.route
		s.TrustedProxies = []string{"10.244.0.0/16"}
		if !tc.edge {
			s.Remove(stacks.Edge)
		}
		err := s.Validate()
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
}

// TestStartOrderOfACircle says which services wait for each other.
func TestStartOrderOfACircle(t *testing.T) {
	s := load(t, "prod", withPassword())
	s.Service(stacks.Redis).DependsOn = []string{stacks.Backend}
	if order, err := s.StartOrder(); err == nil {
		t.Errorf("they start as %v", order)
	}
}

// TestWayOut finds the first network of a service that leads out of the stack.
func TestWayOut(t *testing.T) {
	s := stacks.Stack{Networks: []stacks.Network{
		{Name: "closed", Internal: true}, {Name: "open"}, {Name: "more"},
	}}
	for networks, want := range map[string]string{
		"closed": "", "open": "open", "more": "more", "closed more open": "open", "": "",
	} {
		n, found := s.WayOut(stacks.Service{Networks: strings.Fields(networks)})
		if n.Name != want || found != (want != "") {
			t.Errorf("of %q it is %q, %v", networks, n.Name, found)
		}
	}
}

// TestOutside names a destination.
func TestOutside(t *testing.T) {
	for want, o := range map[string]stacks.Outside{
		"a.example port 1 (r)": {Host: "a.example", Port: 1, Reason: "r"},
		"any host, port 2 (r)": {Port: 2, Reason: "r"},
	} {
		if o.String() != want {
			t.Errorf("got %q, want %q", o, want)
		}
	}
}
