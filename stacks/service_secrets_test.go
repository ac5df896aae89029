package stacks_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/google/go-cmp/cmp"
)

// TestServiceSecrets gives a service a secret from each source, each as a file and a variable.
func TestServiceSecrets(t *testing.T) {
	v, err := stacks.DecodeSettings(map[string]string{
		"target": "kubernetes",
		"services": `{"backend": {"replicas": 3, "secrets": {
			"TOKEN": {"secret": "tokens", "key": "backend"},
			"CA_KEY": {"externalSecret": {"store": "vault", "kind": "ClusterSecretStore",
				"key": "chat/ca", "property": "key"}}}}}`,
	}, []string{"redisPassword", "services.backend.secrets.API_KEY", "services.redis.secrets.MORE"})
	if err != nil {
		t.Fatal(err)
	}

	s := load(t, "prod", v)
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}

	backend := s.Service(stacks.Backend)
	env := map[string]string{
		"API_KEY_FILE": "/run/secrets/api-key",
		"CA_KEY_FILE":  "/run/secrets/ca-key",
		"TOKEN_FILE":   "/run/secrets/token",
	}
	if d := cmp.Diff(env, backend.Env); d != "" {
		t.Errorf("variables (-want +got):\n%s", d)
	}
	if backend.Replicas != 3 {
		t.Errorf("%d replicas", backend.Replicas)
	}

	for _, path := range env {
		if !slices.ContainsFunc(backend.Files, func(f stacks.File) bool {
			return f.Path == path && f.Text("hunter2\n") == "hunter2"
		}) {
			t.Errorf("there is no file %s with the value", path)
		}
	}

	want := []stacks.Secret{
		{Name: "redis-password", ConfigKey: "redisPassword"},
		{Name: "backend-api-key", ConfigKey: "services.backend.secrets.API_KEY"},
		{
			Name: "backend-ca-key", ConfigKey: "services.backend.secrets.CA_KEY",
			External: &stacks.ExternalSecret{
				Store: "vault", Kind: "ClusterSecretStore", Key: "chat/ca", Property: "key",
			},
		},
		{
			Name: "backend-token", ConfigKey: "services.backend.secrets.TOKEN",
			Existing: &stacks.ExistingSecret{Name: "tokens", Key: "backend"},
		},
		{Name: "redis-more", ConfigKey: "services.redis.secrets.MORE"},
	}
	if d := cmp.Diff(want, s.Secrets); d != "" {
		t.Errorf("secrets (-want +got):\n%s", d)
	}

	keys := map[string]string{
		"redis-password":  "redisPassword",
		"backend-api-key": "services.backend.secrets.API_KEY",
		"redis-more":      "services.redis.secrets.MORE",
	}
	if d := cmp.Diff(keys, s.SecretKeys()); d != "" {
		t.Errorf("keys (-want +got):\n%s", d)
	}
}

func TestWrongServiceSecrets(t *testing.T) {
	for name, tt := range map[string]struct {
		key, want string
	}{
		"too deep": {"services.backend.secrets.API_KEY.more", "is no secret: set it again without"},
		"another":  {"services.backend.replicas.x", "is no secret: set it again without --secret"},
		"lower case": {"services.backend.secrets.apiKey",
			"codexcontinue:services.backend.secrets.apiKey: is no name of a secret"},
		"a stranger's": {"services.bakend.secrets.API_KEY",
			"codexcontinue:services.bakend: this stack has no such service"},
		"too long": {"services.frontend.secrets." + strings.Repeat("A", 40), "is too long: frontend-a"},
		"a variable of the contract": {"services.backend.secrets.TLS_CERTIFICATE",
			"services.backend.env.TLS_CERTIFICATE_FILE: is the contract's"},
		"another secret's name": {"services.redis.secrets.PASSWORD",
			"is called redis-password, as another secret of the stack is"},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := stacks.DecodeSettings(nil, []string{"redisPassword", tt.key})
			if err == nil {
				v.InternalTLS = new(true)
				v.Secrets[stacks.InternalAuthorityKey] = true
				var s stacks.Stack
				if s, err = stacks.Load("prod", v, checkout()); err == nil {
					err = s.Validate()
				}
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

// TestAutoscaleKeepsReplicas checks that a service which is to follow the load has no fewer replicas
// than before, unless the settings say so.
func TestAutoscaleKeepsReplicas(t *testing.T) {
	for name, tt := range map[string]struct {
		autoscale    string
		least, begin int
	}{
		"no least":     {`{"max": 9}`, 2, 2},
		"more":         {`{"min": 4, "max": 9}`, 4, 4},
		"fewer, asked": {`{"min": 1, "max": 9}`, 1, 2},
		"one at most":  {`{"max": 1}`, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := stacks.DecodeSettings(map[string]string{
				"target": "kubernetes", "services": `{"backend": {"autoscale": ` + tt.autoscale + `}}`,
			}, []string{"redisPassword"})
			if err != nil {
				t.Fatal(err)
			}

			s := load(t, "prod", v)
			b := s.Service(stacks.Backend)
			if b.Autoscale.Min != tt.least || b.Replicas != tt.begin {
				t.Errorf("begins with %d, keeps %d at least", b.Replicas, b.Autoscale.Min)
			}
			if err := s.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}
