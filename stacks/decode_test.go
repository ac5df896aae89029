package stacks_test

import (
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/google/go-cmp/cmp"
)

func TestDecodeSettings(t *testing.T) {
	got, err := stacks.DecodeSettings(map[string]string{
		"target":          "docker",
		"overlay":         "dev",
		"debug":           "true",
		"logLevel":        "warn",
		"domain":          "legal",
		"domainTitle":     "Legal",
		"portOffset":      "100",
		"conversationTTL": "720h",
		"model":           `{"name": "m", "modelfile": "modelfiles/m/Modelfile", "base": "tiny", "parallel": 8}`,
		"edge": `{"port": 80, "address": "0.0.0.0", "host": "chat.example.com",
			"gateway": {"class": "envoy"}, "tls": {"clusterIssuer": "acme"}}`,
		"gpu": `{"count": 2, "resource": "nvidia.com/mig-1g.10gb", "runtimeClass": "nvidia",
			"nodeSelector": {"gpu": "true"}, "tolerations": [{"key": "gpu", "effect": "NoSchedule"}]}`,
		"registry": "registry.example.com/team",
		"platform": "linux/arm64,linux/amd64",
		"volumes":  `{"ollama-data": {"size": "80Gi", "class": "fast", "shared": true}}`,
		"redis": `{"url": "rediss://chat@redis.example.com:6379/1",
			"sentinels": ["a:26379", "b:26379"], "master": "main"}`,
		"kubernetes": `{"context": "kind-lab", "namespace": "chat", "domain": "lab.example"}`,
		"services": `{"backend": {"replicas": 3, "cpu": 1.5, "memory": "2Gi", "pids": 64},
			"ml": {"cpu": "250m"}, "frontend": {"autoscale": {"min": 2, "max": 9}}}`,
	}, []string{"redisPassword"})
	if err != nil {
		t.Fatal(err)
	}

	yes, ttl, three := true, 720*time.Hour, 3
	want := stacks.Settings{
		Target:          stacks.Docker,
		Overlay:         "dev",
		Debug:           &yes,
		LogLevel:        "warn",
		Domain:          "legal",
		DomainTitle:     "Legal",
		PortOffset:      100,
		ConversationTTL: &ttl,
		Model: stacks.ModelSettings{
			Name:      "m",
			Modelfile: "modelfiles/m/Modelfile",
			Base:      "tiny",
			Parallel:  8,
		},
		Edge: stacks.EdgeSettings{
			Port:    80,
			Address: "0.0.0.0",
			Host:    "chat.example.com",
			Gateway: &stacks.Gateway{Class: "envoy"},
			TLS:     &stacks.TLS{ClusterIssuer: "acme"},
		},
		GPU: &stacks.GPU{
			Count:        2,
			Resource:     "nvidia.com/mig-1g.10gb",
			RuntimeClass: "nvidia",
			NodeSelector: map[string]string{"gpu": "true"},
			Tolerations:  []stacks.Toleration{{Key: "gpu", Effect: "NoSchedule"}},
		},
		Registry:  "registry.example.com/team",
		Platforms: []string{"linux/arm64", "linux/amd64"},
		Volumes: map[string]stacks.VolumeSettings{"ollama-data": {
			Size:   80 * stacks.GiB,
			Class:  "fast",
			Shared: &yes,
		}},
		Redis: &stacks.RedisSettings{
			URL:       "rediss://chat@redis.example.com:6379/1",
			Sentinels: []string{"a:26379", "b:26379"},
			Master:    "main",
		},
		Kubernetes: stacks.KubernetesSettings{
			Context:   "kind-lab",
			Namespace: "chat",
			Domain:    "lab.example",
		},
		Services: map[string]stacks.ServiceSettings{
			"backend":  {Replicas: &three, CPU: 1500, Memory: 2 * stacks.GiB, PIDs: 64},
			"ml":       {CPU: 250},
			"frontend": {Autoscale: &stacks.Autoscale{Min: 2, Max: 9, CPU: 70}},
		},
		Secrets: map[string]bool{"redisPassword": true},
	}

	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestEmptyDefaults takes what Pulumi.yaml's schema sets when a stack sets nothing.
func TestEmptyDefaults(t *testing.T) {
	got, err := stacks.DecodeSettings(map[string]string{
		"target":          "docker",
		"overlay":         "",
		"logLevel":        "",
		"debug":           "",
		"domain":          "",
		"domainTitle":     "",
		"model":           "{}",
		"edge":            "{}",
		"portOffset":      "0",
		"conversationTTL": "",
		"gpu":             "{}",
		"services":        "{}",
		"signIn":          "",
		"audit":           "{}",
	}, nil)
	if err != nil {
		t.Fatal(err)
	}

	want := stacks.Settings{
		Target:   stacks.Docker,
		Services: map[string]stacks.ServiceSettings{},
		Volumes:  map[string]stacks.VolumeSettings{},
		Secrets:  map[string]bool{},
	}

	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ key, value, want string }{
		"unknown key": {"replcas", "1",
			`codexcontinue:replcas: unknown key (valid: audit, backup, backupSecretKey, conversationTTL, debug, `},
		"misspelt key": {"loglevl", "info", "codexcontinue:loglevl: unknown key: did you mean logLevel?"},
		"wrong target": {"target", "swarm", `codexcontinue:target: "swarm" is none of docker, kubernetes`},
		"wrong level": {"logLevel", "loud",
			`codexcontinue:logLevel: "loud" is none of debug, info, warn, error`},
		"not a bool": {"debug", "yes", `codexcontinue:debug: must be true or false, got "yes"`},
		"wrong unit": {"services", `{"ml": {"memory": "1 gig"}}`,
			`codexcontinue:services.ml.memory: "1 gig" is no amount of memory: ` +
				`write a whole number of Ki, Mi, Gi or Ti, like 512Mi or 2Gi`},
		"unit of Docker": {"services", `{"ml": {"memory": "1g"}}`,
			`codexcontinue:services.ml.memory: "1g" is no amount of memory`},
		"no unit": {"services", `{"ml": {"memory": 512}}`,
			`codexcontinue:services.ml.memory: "512" is no amount of memory`},
		"memory of overflow": {"services", `{"ml": {"memory": "9999999999999Gi"}}`,
			`codexcontinue:services.ml.memory: `},
		"wrong cpu": {"services", `{"ml": {"cpu": "half"}}`,
			`codexcontinue:services.ml.cpu: "half" is no amount of processor time`},
		"cpu too fine": {"services", `{"ml": {"cpu": "0.0001"}}`,
			`codexcontinue:services.ml.cpu: "0.0001" is no amount of processor time`},
		"autoscale and replicas": {"services", `{"ml": {"replicas": 2, "autoscale": {"max": 3}}}`,
			"codexcontinue:services.ml: set either replicas or autoscale"},
		"autoscale unbounded": {"services", `{"ml": {"autoscale": {"min": 3}}}`,
			"codexcontinue:services.ml.autoscale: needs max"},
		"route without host": {"edge", `{"gateway": {"class": "x"}}`, "codexcontinue:edge.host: is not set"},
		"host without route": {"edge", `{"host": "a.example"}`, "codexcontinue:edge.host: needs what routes it"},
		"gateway and ingress": {"edge",
			`{"host": "a.example", "gateway": {"class": "x"}, "ingress": {"class": "y"}}`,
			"codexcontinue:edge.ingress: is set beside gateway"},
		"TLS of another": {"edge",
			`{"host": "a.example", "gateway": {"name": "x"}, "tls": {"secret": "y"}}`,
			"codexcontinue:edge.tls: belongs to the Gateway that is there"},
		"two certificates": {"edge",
			`{"host": "a.example", "ingress": {"class": "x"}, "tls": {"secret": "y", "issuer": "z"}}`,
			"codexcontinue:edge.tls: set exactly one of"},
		"fsync of another": {"redis", `{"url": "redis://a:6379", "fsync": "always"}`,
			"codexcontinue:redis.fsync: is for the stack's own Redis"},
		"unknown fsync":     {"redis", `{"fsync": "sometimes"}`, "codexcontinue:redis.fsync: "},
		"redis without URL": {"redis", `{"cluster": ["a:6379"]}`, "codexcontinue:redis.url: is not set"},
		"redis of no authority": {"redis", `{"url": "rediss://a:6379", "ca": "secret"}`,
			"codexcontinue:redis.ca: holds no certificate in PEM"},
		"volume of no size": {"volumes", `{"redis-data": {"size": "big"}}`,
			`codexcontinue:volumes.redis-data.size: "big" is no amount`},
		"toleration": {"gpu", `{"count": 1, "tolerations": [{"effect": "Never"}]}`,
			`codexcontinue:gpu.tolerations.0.effect: "Never" is none of`},
		"negative replicas": {"services", `{"backend": {"replicas": -1}}`,
			"codexcontinue:services.backend.replicas: must be from 1 to 100, got -1"},
		"zero replicas": {"services", `{"backend": {"replicas": 0}}`,
			"codexcontinue:services.backend.replicas: must be from 1 to 100, got 0"},
		"fraction of replica": {"services", `{"backend": {"replicas": 1.5}}`,
			`codexcontinue:services.backend.replicas: must be a whole number, got "1.5"`},
		"unknown nested key": {"services", `{"backend": {"memroy": "1Gi"}}`,
			"codexcontinue:services.backend.memroy: unknown key: did you mean memory?"},
		"not an object": {"services", `["backend"]`,
			"codexcontinue:services: must be an object of keys and values"},
		"null": {"services", `null`, "codexcontinue:services: must be an object of keys and values"},
		"port too high": {"edge", `{"port": 70000}`,
			"codexcontinue:edge.port: must be from 1 to 65535, got 70000"},
		"address of a name": {"edge", `{"address": "localhost"}`,
			`codexcontinue:edge.address: "localhost" is no IP address`},
		"duration":          {"conversationTTL", "30 days", `codexcontinue:conversationTTL: "30 days" is no duration`},
		"negative duration": {"conversationTTL", "-1h", `codexcontinue:conversationTTL: "-1h" is no duration`},
		"gpu count": {"gpu", `{"count": "some"}`,
			`codexcontinue:gpu.count: must be a whole number, got "some"`},
		"gpu both":    {"gpu", `{"count": 1, "devices": ["0"]}`, "codexcontinue:gpu: set either count"},
		"gpu devices": {"gpu", `{"devices": "0"}`, "codexcontinue:gpu.devices: must be a list"},
		"empty model": {"model", `{"name": ""}`, "codexcontinue:model.name: is empty"},
		"no parallel": {"model", `{"parallel": 0}`,
			"codexcontinue:model.parallel: must be from 1 to 512, got 0"},
		"too parallel": {"model", `{"parallel": 513}`,
			"codexcontinue:model.parallel: must be from 1 to 512, got 513"},
		"parallel in words": {"model", `{"parallel": "all"}`,
			`codexcontinue:model.parallel: must be a whole number, got "all"`},
		"structured model":   {"model", `{"name": {"a": 1}}`, `codexcontinue:model.name: must be text, got`},
		"structured domain":  {"domain", `["legal"]`, `codexcontinue:domain: must be text, got`},
		"null in model":      {"model", `{"base": null}`, `codexcontinue:model.base: is empty`},
		"half an object":     {"model", `{"base": "x"`, `codexcontinue:model: must be an object`},
		"port as a fraction": {"edge", `{"port": 80.5}`, `codexcontinue:edge.port: must be a whole number, got "80.5"`},
		"pids":               {"services", `{"ml": {"pids": 0}}`, `codexcontinue:services.ml.pids: must be from 1 to`},
		"processor": {"platform", "arm64",
			`codexcontinue:platform: "arm64" is none of linux/amd64, linux/arm64`},
		"platform twice": {"platform", "linux/arm64,linux/arm64",
			`codexcontinue:platform: linux/arm64 is there twice`},
		"cpu of zero": {"services", `{"ml": {"cpu": 0}}`,
			`codexcontinue:services.ml.cpu: must be more than nothing`},
		"memory of zero": {"services", `{"ml": {"memory": "0Gi"}}`,
			`codexcontinue:services.ml.memory: must be more than nothing`},
		"plain secret": {"redisPassword", "hunter2",
			"codexcontinue:redisPassword: must be a secret: set it with `pulumi config set " +
				"--secret codexcontinue:redisPassword`"},
		"plain secret of a service": {"services", `{"backend": {"secrets": {"API_KEY": "hunter2"}}}`,
			"codexcontinue:services.backend.secrets.API_KEY: must be a secret: set it with `pulumi " +
				"config set --secret --path codexcontinue:services.backend.secrets.API_KEY`"},
		"secrets that are a text": {"services", `{"backend": {"secrets": "hunter2"}}`,
			"codexcontinue:services.backend.secrets: must be an object of names and values"},
		"name of a secret": {"services", `{"backend": {"secrets": {"apiKey": {"secret": "a", "key": "b"}}}}`,
			"codexcontinue:services.backend.secrets.apiKey: is no name of a secret"},
		"the stack's own secret": {"services",
			`{"backend": {"secrets": {"REDIS_PASSWORD": {"secret": "a", "key": "b"}}}}`,
			"codexcontinue:services.backend.secrets.REDIS_PASSWORD: is a secret of the stack's own"},
		"a Secret without a key": {"services", `{"backend": {"secrets": {"API_KEY": {"secret": "a"}}}}`,
			"codexcontinue:services.backend.secrets.API_KEY: needs secret"},
		"two sources": {"services",
			`{"backend": {"secrets": {"API_KEY": {"secret": "a", "externalSecret": {}}}}}`,
			"codexcontinue:services.backend.secrets.API_KEY: set either secret and key"},
		"no store": {"services",
			`{"backend": {"secrets": {"API_KEY": {"externalSecret": {"key": "a"}}}}}`,
			"codexcontinue:services.backend.secrets.API_KEY.externalSecret: needs store"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := stacks.DecodeSettings(map[string]string{tc.key: tc.value}, nil)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got  %v\nwant %s", err, tc.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Error("the error shows the secret")
			}
		})
	}
}

func TestDecodeReportsEveryProblem(t *testing.T) {
	_, err := stacks.DecodeSettings(map[string]string{"target": "swarm", "debug": "1",
		"services": `{"ml": {"memory": "1 gig", "cpu": "x"}, "backend": {"replicas": -1}}`},
		[]string{"debgu", "domain"})
	if err == nil {
		t.Fatal("no error")
	}

	want := []string{"codexcontinue:debug: ", "codexcontinue:services.backend.replicas: ",
		"codexcontinue:services.ml.cpu: ",
		"codexcontinue:services.ml.memory: ", "codexcontinue:target: ",
		"codexcontinue:debgu: unknown key: did you mean debug?",
		"codexcontinue:domain: is no secret"}

	lines := strings.Split(err.Error(), "\n")
	if len(lines) != len(want) {
		t.Fatalf("got %d lines, want %d:\n%v", len(lines), len(want), err)
	}

	for i := range want {
		if !strings.HasPrefix(lines[i], want[i]) {
			t.Errorf("line %d is %q, want it to begin with %q", i, lines[i], want[i])
		}
	}
}

func FuzzParseBytes(f *testing.F) {
	for _, s := range []string{"512Mi", "1Gi", "0Ki", "1g", "", "Mi", "-1Gi", "99999999999999Ti", "1.5Gi"} {
		f.Add(s)
	}

	f.Fuzz(func(t *testing.T, s string) {
		b, err := stacks.ParseBytes(s)
		if err != nil {
			return
		}
		if b < 0 {
			t.Fatalf("%q is %d", s, b)
		}
		if b == 0 {
			return
		}
		if again, err := stacks.ParseBytes(b.String()); err != nil || again != b {
			t.Errorf("%q -> %d -> %q -> %d, %v", s, b, b.String(), again, err)
		}
	})
}

func TestCores(t *testing.T) {
	for c, want := range map[stacks.MilliCPU]string{1: "0.001", 500: "0.5", 1000: "1", 12500: "12.5"} {
		if got := c.Cores(); got != want {
			t.Errorf("%s is %s cores, want %s", c, got, want)
		}
	}
}

func FuzzParseMilliCPU(f *testing.F) {
	for _, s := range []string{"500m", "1.5", "2", "", ".5", "1.", "0.001", "-1", "1e3", "1.0000"} {
		f.Add(s)
	}

	f.Fuzz(func(t *testing.T, s string) {
		c, err := stacks.ParseMilliCPU(s)
		if err != nil {
			return
		}
		if again, err := stacks.ParseMilliCPU(c.String()); err != nil || again != c {
			t.Errorf("%q -> %d -> %q -> %d, %v", s, c, c.String(), again, err)
		}
	})
}
