package program_test

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/program"
)

// TestServiceSecret checks that a secret among the settings of a service reaches that service alone,
// as a file, and that no plan has its value.
func TestServiceSecret(t *testing.T) {
	const secret, file = "hunter2-hunter2", "/run/secrets/api-key"
	const settings = "  codexcontinue:services:\n    backend:\n      cpu: 500m\n      secrets:\n" +
		"        API_KEY:\n          secure: v1:abc:def\n"
	for _, target := range plan.Targets {
		t.Run(string(target), func(t *testing.T) {
			resources, err := record(project(t, "  codexcontinue:target: docker\n"+settings),
				map[string]string{
					"target":   string(target),
					"services": `{"backend":{"cpu":"500m","secrets":{"API_KEY":"` + secret + `"}}}`,
				}, "services")
			if err != nil {
				t.Fatal(err)
			}

			text, err := json.Marshal(resources)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret))} {
				if strings.Contains(string(text), s) {
					t.Error("the plan shows the secret")
				}
			}

			var have []string
			for _, r := range resources {
				text, err := json.Marshal(r.Inputs)
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(string(text), file) {
					have = append(have, r.Name)
				}
				if !strings.HasSuffix(r.Parent, ":Service backend") && strings.Contains(string(text), file) {
					t.Errorf("%s of %s has the file", r.Name, r.Parent)
				}
			}
			if len(have) == 0 {
				t.Error("nothing has the file")
			}
		})
	}
}

// TestPlainServiceSecret refuses a value that the file shows, without showing it, even where another
// in the same settings is a secret.
func TestPlainServiceSecret(t *testing.T) {
	_, err := record(project(t, "  codexcontinue:services:\n    backend:\n      secrets:\n"+
		"        API_KEY: hunter2\n        TOKEN: {secure: x}\n"),
		map[string]string{
			"services": `{"backend":{"secrets":{"API_KEY":"hunter2","TOKEN":"hunter3"}}}`,
		}, "services")
	if err == nil || !strings.Contains(err.Error(),
		"codexcontinue:services.backend.secrets.API_KEY: must be a secret: set it with") {
		t.Errorf("got %v", err)
	}
	if err != nil && strings.Contains(err.Error(), "hunter") {
		t.Error("the error shows the secret")
	}
}

// TestReadServiceSecrets reads the settings of services and their secrets apart.
func TestReadServiceSecrets(t *testing.T) {
	root := project(t, "  codexcontinue:services:\n    backend:\n      cpu: 500m\n      secrets:\n"+
		"        API_KEY: {secure: abc}\n        TOKEN: {secret: a, key: b}\n")
	config, err := program.ReadConfig(root, "dev")
	if err != nil {
		t.Fatal(err)
	}

	plain, secret := config.Own()
	const want = `{"backend":{"cpu":"500m","secrets":{"TOKEN":{"key":"b","secret":"a"}}}}`
	if plain["services"] != want {
		t.Errorf("got %s", plain["services"])
	}
	if !slices.Equal(secret, []string{"services.backend.secrets.API_KEY"}) {
		t.Errorf("secrets %q", secret)
	}

	const key = "codexcontinue:services.backend.secrets.API_KEY"
	if config.Secret[key] != "abc" {
		t.Errorf("the ciphertext is %q", config.Secret[key])
	}

	back, err := program.PutSecret("", key, "x")
	if err != nil || back != `{"backend":{"secrets":{"API_KEY":"x"}}}` {
		t.Errorf("put back: %s, %v", back, err)
	}
}

// TestServicesOpened takes the opened values of secrets out of the settings of services, and no place
// of one in a cluster. An error shows nothing of what it could not read.
func TestServicesOpened(t *testing.T) {
	rest, secret, err := program.CutOpened(`{"ml":{"cpu":"2"},"backend":{"replicas":3,"secrets":` +
		`{"API_KEY":"hunter2","PIN":4711,"TOKEN":{"secret":"a","key":"b"}}}}`)
	const want = `{"backend":{"replicas":3,"secrets":{"TOKEN":{"key":"b","secret":"a"}}},` +
		`"ml":{"cpu":"2"}}`
	keys := []string{
		"codexcontinue:services.backend.secrets.API_KEY", "codexcontinue:services.backend.secrets.PIN",
	}
	if err != nil || rest != want || !slices.Equal(secret, keys) {
		t.Errorf("%s, %q, %v", rest, secret, err)
	}

	_, _, err = program.CutOpened("hunter2")
	if err == nil || strings.Contains(err.Error(), "hunter") {
		t.Error(err)
	}

	// With ciphertexts they are as in the file.
	root := project(t, "  codexcontinue:services:\n    backend:\n      cpu: 500m\n      secrets:\n"+
		"        API_KEY: {secure: abc}\n        TOKEN: {secret: a, key: b}\n")
	config, err := program.ReadConfig(root, "dev")
	if err != nil {
		t.Fatal(err)
	}
	const file = `{"backend":{"cpu":"500m","secrets":{"API_KEY":{"secure":"abc"},` +
		`"TOKEN":{"key":"b","secret":"a"}}}}`
	if got, err := config.Services(); err != nil || got != file {
		t.Errorf("got %s, %v", got, err)
	}
}

// TestSecretElsewhere refuses a secret among the settings of a service that are none.
func TestSecretElsewhere(t *testing.T) {
	_, err := record(project(t, "  codexcontinue:services:\n    backend:\n      cpu: {secure: x}\n"),
		map[string]string{"services": `{"backend":{"cpu":"500m"}}`}, "services")
	if err == nil || !strings.Contains(err.Error(), "codexcontinue:services: is no secret") {
		t.Errorf("got %v", err)
	}
}
