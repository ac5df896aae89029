package project

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/environ"
)

func env(pairs ...string) environ.Vars {
	var out environ.Vars
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, pairs[i]+"="+pairs[i+1])
	}
	return out
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestBackend(t *testing.T) {
	home, root := t.TempDir(), t.TempDir()
	write(t, filepath.Join(home, ".pulumi", "credentials.json"),
		`{"current":"https://api.pulumi.com"}`)
	write(t, filepath.Join(root, "none", "keep"), "")
	write(t, filepath.Join(root, "logout", "credentials.json"), `{"current":"","accounts":{}}`)
	write(t, filepath.Join(root, "broken", "credentials.json"), `{`)
	local := "file://" + filepath.ToSlash(filepath.Join(root, ".state"))
	withBackend := Project{Root: root}
	withBackend.file.Backend.URL = "s3://state"
	for name, c := range map[string]struct {
		project Project
		env     environ.Vars
		url     string
		byUs    bool
		err     string
	}{
		"variable wins":     {withBackend, env(BackendVar, "gs://x", "HOME", home), "gs://x", false, ""},
		"project's backend": {withBackend, env("HOME", home), "s3://state", false, ""},
		"login":             {Project{Root: root}, env("HOME", home), "https://api.pulumi.com", false, ""},
		"nobody logged in":  {Project{Root: root}, env("HOME", filepath.Join(root, "none")), local, true, ""},
		"logged out": {Project{Root: root},
			env("HOME", home, "PULUMI_HOME", filepath.Join(root, "logout")), local, true, ""},
		"other credentials": {Project{Root: root},
			env("HOME", root, "PULUMI_CREDENTIALS_PATH", filepath.Join(home, ".pulumi")),
			"https://api.pulumi.com", false, ""},
		"access token": {Project{Root: root}, env("HOME", root, "PULUMI_ACCESS_TOKEN", "t"), "", false, ""},
		"broken credentials": {Project{Root: root},
			env("PULUMI_HOME", filepath.Join(root, "broken")), "", false,
			"log in again with `pulumi login`"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.project.Backend(c.env)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want one with %q", err, c.err)
				}
				return
			}

			if err != nil || got.URL != c.url || got.Default != c.byUs {
				t.Errorf("got %+v, %v, want URL %q, default %v", got, err, c.url, c.byUs)
			}
		})
	}
}

func TestPrepareIsPrivate(t *testing.T) {
	p := Project{Root: t.TempDir()}
	b, err := p.Backend(env("HOME", p.Root))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Prepare(b); err != nil {
		t.Fatal(err)
	}

	info, err := os.Stat(p.StateDir())
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the state's folder: %v, %v, want mode 0700", info, err)
	}
}

func TestPassphrase(t *testing.T) {
	shipped, err := Project{Root: "../../../.."}.Stack("dev")
	if err != nil {
		t.Fatal(err)
	}

	other := "v1:KxVhivDbwUw=:v1:z1dQF9rmfsaH63W1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="
	file, cloud := Backend{URL: "file:///x"}, Backend{URL: "https://api.pulumi.com"}
	for name, c := range map[string]struct {
		stack   StackFile
		backend Backend
		env     environ.Vars
		want    string // the passphrase that is given
		err     string
	}{
		"dev as shipped":            {shipped, file, env(), DevPassphrase, ""},
		"dev as shipped in a cloud": {shipped, cloud, env(), DevPassphrase, ""},
		"dev of its own": {StackFile{Name: "dev", EncryptionSalt: other}, file, env(),
			"", PassphraseFileVar},
		"dev's salt elsewhere": {StackFile{Name: "prod", EncryptionSalt: shipped.EncryptionSalt},
			file, env(), "", PassphraseFileVar},
		"prod new":               {StackFile{Name: "prod"}, file, env(), "", PassphraseVar},
		"prod with one":          {StackFile{Name: "prod"}, file, env(PassphraseVar, "x"), "", ""},
		"prod with an empty one": {StackFile{Name: "prod"}, file, env(PassphraseVar, ""), "", ""},
		"prod with a file":       {StackFile{Name: "prod"}, file, env(PassphraseFileVar, "/x"), "", ""},
		"dev told otherwise":     {shipped, file, env(PassphraseVar, "mine"), "", ""},
		"prod in a cloud":        {StackFile{Name: "prod"}, cloud, env(), "", ""},
		"prod with a vault":      {StackFile{Name: "prod", SecretsProvider: "hashivault://k"}, file, env(), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := PassphraseEnv(c.stack, c.backend, c.env)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want one with %q", err, c.err)
				}
				return
			}

			if err != nil || got[PassphraseVar] != c.want {
				t.Errorf("got %v, %v, want passphrase %q", got, err, c.want)
			}
		})
	}
}

func TestValues(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "Pulumi.yaml"), `
name: codexcontinue
runtime: go
config:
  codexcontinue:target: {type: string, default: docker}
  codexcontinue:model: {type: object, default: {}}
  codexcontinue:secret: {type: string, default: none}
  docker:host: {value: "tcp://engine:2375"}
`)

	write(t, filepath.Join(root, "Pulumi.x.yaml"), `
config:
  codexcontinue:debug: true
  codexcontinue:edge: {port: 80}
  codexcontinue:secret: {secure: abc}
  other:key: 1
`)

	p, err := Find(filepath.Join(root))
	if err != nil {
		t.Fatal(err)
	}

	s, err := p.Stack("org/codexcontinue/x")
	if err != nil || s.Name != "x" {
		t.Fatalf("stack %+v, %v", s, err)
	}

	plain, secret := s.Config.Own()
	want := map[string]string{
		"target": "docker",
		"model":  "{}",
		"debug":  "true",
		"edge":   `{"port":80}`,
	}

	for k, v := range want {
		if plain[k] != v {
			t.Errorf("%s is %q, want %q", k, plain[k], v)
		}
	}

	if len(plain) != len(want) || len(secret) != 1 || secret[0] != "secret" {
		t.Errorf("got %v and secrets %v", plain, secret)
	}
	if host := s.Config.Plain["docker:host"]; host != "tcp://engine:2375" {
		t.Errorf("docker:host is %q", host)
	}
}
