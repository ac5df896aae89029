package policy_test

import (
	"slices"

	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/services/backend/backendenv"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/ml/mlenv"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// badOnKubernetes are bad stacks as badOnDocker has them; tamper changes the Deployments,
// StatefulSets and Jobs of the service.
var badOnKubernetes = map[string]bad{
	"a balanced backend": {tamperAll: object("Service", "backend", func(in map[string]any) {
		at(in, "spec")["type"] = "LoadBalancer"
	}), subject: "backend", want: "public-port"},
	"an edge balanced in clear text": {change: openInClearText, subject: "edge", want: "edge-tls"},
	"open to whoever comes":          {change: openToAll, subject: "edge", want: "sign-in"},
	"routed to whoever comes": {change: func(s *stacks.Stack) {
		s.Route = &stacks.Route{Host: "chat.example.com", Ingress: &stacks.Ingress{Class: "c"},
			TLS: &stacks.TLS{Secret: "certificate"}}
	}, subject: "edge", want: "sign-in"},
	"routed by what it does not believe": {change: func(s *stacks.Stack) {
		s.Route = &stacks.Route{Host: "chat.example.com", Ingress: &stacks.Ingress{Class: "c"},
			TLS: &stacks.TLS{Secret: "certificate"}}
		s.Service(stacks.Gate).Contract.(*gateenv.Config).SignIn = gateenv.Accounts
	}, subject: "edge", want: "edge-tls"},
	"open to other pods": {tamperAll: object("NetworkPolicy", "edge", func(in map[string]any) {
		at(in, "spec")["ingress"] = []any{map[string]any{}}
	}), subject: "edge", want: "sign-in"},
	"a node's port": {tamperAll: object("Service", "redis", func(in map[string]any) {
		at(in, "spec")["type"] = "NodePort"
	}), subject: "redis", want: "public-port"},
	"a host port": {service: "ollama", tamper: container(func(c map[string]any) {
		c["ports"].([]any)[0].(map[string]any)["hostPort"] = 11434.0
	}), want: "public-port"},
	"privileged": {service: "ml", tamper: container(security("privileged", true)),
		want: "privileged"},
	"root": {service: "ml", tamper: container(security("runAsUser", 0.0)),
		want: "non-root"},
	"root's group": {service: "ml", tamper: container(security("runAsGroup", 0.0)),
		want: "non-root"},
	"a writable root": {change: service("ollama", func(s *stacks.Service) {
		s.Security.WritableRoot = "it was easier"
	}), subject: "ollama", want: "read-only-root"},
	"a dangerous capability": {service: "redis",
		tamper: container(security("capabilities", map[string]any{"drop": []any{"ALL"},
			"add": []any{"SYS_ADMIN"}})), want: "capabilities"},
	"capabilities not dropped": {service: "ml", tamper: container(security("capabilities", nil)),
		want: "capabilities"},
	"privileges to gain": {service: "ml",
		tamper: container(security("allowPrivilegeEscalation", true)), want: "no-new-privileges"},
	"privileges by default": {service: "ml",
		tamper: container(func(c map[string]any) {
			delete(at(c, "securityContext"),
				"allowPrivilegeEscalation")
		}), want: "no-new-privileges"},
	"no seccomp": {service: "ml",
		tamper: container(security("seccompProfile",
			map[string]any{"type": "Unconfined"})), want: "confined"},
	"no AppArmor, as an annotation says": {service: "ml", tamper: func(in map[string]any) {
		at(in, "spec", "template", "metadata")["annotations"] = map[string]any{
			"container.apparmor.security.beta.kubernetes.io/ml": "unconfined",
		}
	}, want: "confined"},
	"the machine's network": {service: "backend", tamper: pod("hostNetwork", true),
		want: "host-namespace"},
	"the machine's processes": {
		service: "backend",
		tamper:  pod("hostPID", true),
		want:    "host-namespace",
	},
	"the engine's socket": {service: "backend",
		tamper: hostPath("/run/containerd/containerd.sock"), want: "engine-socket"},
	"a folder of the machine": {service: "backend", tamper: hostPath("/etc"), want: "host-path"},
	"a device": {service: "redis",
		tamper: container(set("volumeDevices",
			[]any{map[string]any{"name": "redis-data",
				"devicePath": "/dev/xvda"}})), want: "host-device"},
	"no memory limit": {service: "ml",
		tamper: container(func(c map[string]any) {
			delete(at(c, "resources", "limits"), "memory")
		}), want: "limits"},
	"no limits": {service: "ml", tamper: container(unset("resources")), want: "limits"},
	"no liveness": {service: "ml", tamper: container(unset("livenessProbe")),
		want: "health-check"},
	"latest": {service: "redis", tamper: container(set("image", "redis")),
		want: "pinned-image"},
	"a base of a series": {change: service("backend", func(s *stacks.Service) {
		s.Image.Build.Args["GO_IMAGE"] = "golang:1.26-bookworm"
	}), subject: "backend", want: "pinned-image"},
	"a sidecar from the network": {service: "redis",
		tamper: addContainer("initContainers", "busybox:latest"), want: "pinned-image"},
	"debugged production": {change: service("backend", func(s *stacks.Service) {
		s.Contract.Shared().Debug = true
	}), subject: "backend", want: "debug"},
	"a password in the environment": {change: service("redis", func(s *stacks.Service) {
		s.Env = map[string]string{"REDIS_PASSWORD": "x"}
	}), subject: "redis", want: "secret-in-environment"},
	"a secret as a variable": {service: "backend",
		tamper: container(set("env", []any{map[string]any{"name": "X",
			"valueFrom": map[string]any{"secretKeyRef": map[string]any{"name": "a",
				"key": "b"}}}})), want: "secret-in-environment"},
	"all of a secret": {
		service: "backend",
		tamper: container(set("envFrom",
			[]any{map[string]any{"secretRef": map[string]any{"name": "a"}}})),
		want: "secret-in-environment",
	},
	"a secret argument": {service: "redis",
		tamper: container(set("args",
			[]any{"--requirepass", plan.Secret})), want: "secret-in-arguments"},
	"a secret annotation": {service: "redis", tamper: func(in map[string]any) {
		at(in, "spec", "template", "metadata")["annotations"] = map[string]any{"a": plan.Secret}
	}, want: "secret-in-arguments"},
	"a redis for everyone": {change: service("redis", func(s *stacks.Service) {
		s.Files = slices.DeleteFunc(s.Files, func(f stacks.File) bool { return f.Secret != "" })
	}), subject: "redis", want: "redis-password"},
	"healthcare with a way out": {
		from: "healthcare",
		tamperAll: object("NetworkPolicy", "backend",
			egress(map[string]any{
				"to": []any{map[string]any{"ipBlock": map[string]any{"cidr": "0.0.0.0/0"}}},
			})),
		subject: "backend",
		want:    "isolation",
	},
	"healthcare with any way out": {from: "healthcare",
		tamperAll: object("NetworkPolicy", "ml",
			egress(map[string]any{})), subject: "ml", want: "isolation"},
	"healthcare to a namespace": {
		from: "healthcare",
		tamperAll: object("NetworkPolicy", "ml", egress(map[string]any{
			"to": []any{map[string]any{"namespaceSelector": map[string]any{}}}})),
		subject: "ml",
		want:    "isolation",
	},
	"healthcare's names to anyone": {
		from: "healthcare",
		tamperAll: object("NetworkPolicy", "ml", egress(map[string]any{
			"to":    []any{map[string]any{"ipBlock": map[string]any{"cidr": "8.8.8.8/32"}}},
			"ports": []any{map[string]any{"port": 53.0}},
		})),
		subject: "ml",
		want:    "isolation",
	},
	"healthcare that asks the cluster for names": {
		from: "healthcare",
		tamperAll: object("Deployment", "ml", func(in map[string]any) {
			at(in, "spec", "template", "spec")["dnsPolicy"] = "ClusterFirst"
		}),
		subject: "ml",
		want:    "isolation",
	},
	"healthcare that may ask the cluster for names": {
		from: "healthcare",
		tamperAll: object("NetworkPolicy", "ml", egress(map[string]any{
			"to":    []any{map[string]any{"namespaceSelector": map[string]any{}}},
			"ports": []any{map[string]any{"port": 53.0}},
		})),
		subject: "ml",
		want:    "isolation",
	},
	"healthcare's resolver with a way out": {
		from: "healthcare",
		tamperAll: object("NetworkPolicy", "resolver", egress(map[string]any{
			"to": []any{map[string]any{"ipBlock": map[string]any{"cidr": "0.0.0.0/0"}}},
		})),
		subject: "resolver",
		want:    "isolation",
	},
	"healthcare with the cloud": {from: "healthcare",
		change: service("ollama", func(s *stacks.Service) {
			delete(s.Env, "OLLAMA_NO_CLOUD")
		}), subject: "ollama", want: "cloud-models"},
	"healthcare in the clear": {from: "healthcare",
		change: service("ollama", func(s *stacks.Service) {
			delete(s.Env, "TLS_CERTIFICATE_FILE")
		}), subject: "ollama", want: "internal-tls"},
	"healthcare without evals": {
		from: "healthcare",
		change: service("ml", func(s *stacks.Service) {
			s.Contract.(*mlenv.Config).EvalsDigest = ""
		}),
		subject: "ml",
		want:    "evals",
	},
	"healthcare's answers rated": {
		from: "healthcare",
		change: service("backend", func(s *stacks.Service) {
			s.Contract.(*backendenv.Config).Ratings = true
		}),
		subject: "backend",
		want:    "ratings",
	},
	"healthcare for whoever comes": {
		from: "healthcare",
		change: service("gate", func(s *stacks.Service) {
			s.Contract.(*gateenv.Config).SignIn = gateenv.None
		}),
		subject: "gate",
		want:    "safeguards",
	},
	"claims that go with their set": {
		tamperAll: object("StatefulSet", "redis", func(in map[string]any) {
			at(in, "spec", "persistentVolumeClaimRetentionPolicy")["whenDeleted"] = "Delete"
		}),
		subject: "redis-data",
		want:    "retained-volume",
	},
	"two at one volume": {tamperAll: object("StatefulSet", "redis", func(in map[string]any) {
		at(in, "spec")["replicas"] = 2.0
	}), subject: "redis", want: "single-writer"},
	"a namespace that goes": {tamperAll: object("Namespace", "", func(map[string]any) {}),
		subject: "*", want: "retained-volume"},
	"a token": {service: "ml", tamper: pod("automountServiceAccountToken", true),
		want: "cluster-token"},
	"any port of anybody": {
		tamperAll: object("NetworkPolicy", "ml", egress(map[string]any{
			"to": []any{map[string]any{"ipBlock": map[string]any{"cidr": "0.0.0.0/0"}}},
		})),
		subject: "ml",
		want:    "egress",
	},
	"most ports of anybody": {
		tamperAll: object("NetworkPolicy", "ml", egress(map[string]any{
			"ports": []any{map[string]any{"port": 1.0, "endPort": 65535.0}},
		})),
		subject: "ml",
		want:    "egress",
	},
	"pods of everybody": {
		tamperAll: object("NetworkPolicy", "redis", egress(map[string]any{
			"to": []any{map[string]any{"namespaceSelector": map[string]any{}}},
		})),
		subject: "redis",
		want:    "egress",
	},
	"names from anybody": {
		tamperAll: object("NetworkPolicy", "backend", egress(map[string]any{
			"to":    []any{map[string]any{"ipBlock": map[string]any{"cidr": "8.8.8.8/32"}}},
			"ports": []any{map[string]any{"port": 443.0}, map[string]any{"port": 53.0}},
		})),
		subject: "backend",
		want:    "egress",
	},
	"a port that nobody needs": {
		tamperAll: object("NetworkPolicy", "ml", egress(map[string]any{
			"to":    []any{map[string]any{"ipBlock": map[string]any{"cidr": "0.0.0.0/0"}}},
			"ports": []any{map[string]any{"port": 443.0}},
		})),
		subject: "ml",
		want:    "egress",
	},
	"another port than the one for models": {
		tamperAll: object("NetworkPolicy", "ollama", egress(map[string]any{
			"to":    []any{map[string]any{"ipBlock": map[string]any{"cidr": "0.0.0.0/0"}}},
			"ports": []any{map[string]any{"port": 443.0}, map[string]any{"port": 80.0}},
		})),
		subject: "ollama",
		want:    "egress",
	},
	"an address that nobody needs": {
		tamperAll: object("NetworkPolicy", "redis", egress(map[string]any{
			"to":    []any{map[string]any{"ipBlock": map[string]any{"cidr": "203.0.113.7/32"}}},
			"ports": []any{map[string]any{"port": 443.0}},
		})),
		subject: "redis",
		want:    "egress",
	},
	"a Job that downloads": {
		tamperAll: object("NetworkPolicy", "model", egress(map[string]any{
			"to":    []any{map[string]any{"ipBlock": map[string]any{"cidr": "0.0.0.0/0"}}},
			"ports": []any{map[string]any{"port": 443.0}},
		})),
		subject: "model",
		want:    "egress",
	},
	"others' pods at the port for models": {
		tamperAll: object("NetworkPolicy", "ollama", egress(map[string]any{
			"to":    []any{map[string]any{"namespaceSelector": map[string]any{}}},
			"ports": []any{map[string]any{"port": 443.0}},
		})),
		subject: "ollama",
		want:    "egress",
	},
	"one backend": {change: service("backend", func(s *stacks.Service) { s.Replicas = 1 }),
		subject: "backend", want: "replicas"},
	"less memory than it may use": {service: "redis", tamper: container(func(c map[string]any) {
		at(c, "resources", "requests")["memory"] = "8Mi"
	}), want: "requests"},
	"no processor": {service: "redis", tamper: container(func(c map[string]any) {
		at(c, "resources", "requests")["cpu"] = "0"
	}), want: "requests"},
	"a shared model that another may change": {
		change: func(s *stacks.Stack) {
			for i := range s.Volumes {
				if v := &s.Volumes[i]; v.Name == stacks.OllamaData {
					v.Shared, v.PerReplica = true, false
				}
			}
			ollama := s.Service(stacks.Ollama)
			ollama.Replicas, ollama.Mounts[0].ReadOnly = 2, true
		},
		service: "backend",
		tamper: both(func(in map[string]any) {
			spec := at(in, "spec", "template", "spec")
			volumes, _ := spec["volumes"].([]any)
			spec["volumes"] = append(volumes, map[string]any{
				"name":                  "model",
				"persistentVolumeClaim": map[string]any{"claimName": stacks.OllamaData},
			})
		}, container(func(c map[string]any) {
			mounts, _ := c["volumeMounts"].([]any)
			c["volumeMounts"] = append(mounts, map[string]any{"name": "model", "mountPath": "/model"})
		})),
		subject: "*",
		want:    "volume-owner",
	},
	"no policy for what comes in": {tamperAll: func(r *plan.Resource) {
		if r.Inputs["kind"] == "NetworkPolicy" {
			at(r.Inputs, "spec")["policyTypes"] = []any{"Egress"}
		}
	}, subject: "*", want: "fenced"},
}

// at returns the object at the path.
func at(in map[string]any, path ...string) map[string]any {
	for _, key := range path {
		in = in[key].(map[string]any)
	}
	return in
}

func pod(key string, value any) func(map[string]any) {
	return func(in map[string]any) { at(in, "spec", "template", "spec")[key] = value }
}

func container(f func(map[string]any)) func(map[string]any) {
	return func(in map[string]any) {
		for _, c := range at(in, "spec", "template", "spec")["containers"].([]any) {
			f(c.(map[string]any))
		}
	}
}

func security(key string, value any) func(map[string]any) {
	return func(c map[string]any) { at(c, "securityContext")[key] = value }
}

func hostPath(path string) func(map[string]any) {
	return both(func(in map[string]any) {
		spec := at(in, "spec", "template", "spec")
		volumes, _ := spec["volumes"].([]any)
		spec["volumes"] = append(volumes,
			map[string]any{"name": "host", "hostPath": map[string]any{"path": path}})
	}, container(func(c map[string]any) {
		mounts, _ := c["volumeMounts"].([]any)
		c["volumeMounts"] = append(mounts, map[string]any{"name": "host", "mountPath": "/host"})
	}))
}

// addContainer adds a copy of the container with another image.
func addContainer(list, image string) func(map[string]any) {
	return func(in map[string]any) {
		spec := at(in, "spec", "template", "spec")
		twin := map[string]any{}
		for k, v := range spec["containers"].([]any)[0].(map[string]any) {
			twin[k] = v
		}
		twin["name"], twin["image"] = "twin", image
		spec[list] = []any{twin}
	}
}

// object changes the one object of that kind and name; a namespace becomes one
// that goes with the stack.
func object(kind, name string, f func(map[string]any)) func(*plan.Resource) {
	return func(r *plan.Resource) {
		if r.Inputs["kind"] != kind || name != "" && at(r.Inputs, "metadata")["name"] != name {
			return
		}
		if kind == "Namespace" {
			r.Options.RetainOnDelete = false
		}
		f(r.Inputs)
	}
}

func egress(rule map[string]any) func(map[string]any) {
	return func(in map[string]any) {
		rules, _ := at(in, "spec")["egress"].([]any)
		at(in, "spec")["egress"] = append(rules, rule)
	}
}
