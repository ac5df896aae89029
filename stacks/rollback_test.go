package stacks_test

import (
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/backup/archive"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/knowledge/knowledgeenv"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/google/go-cmp/cmp"
)

// TestRollback gives services the images of an earlier release: what is built is kept, and not
// built; what is pulled has another reference.
func TestRollback(t *testing.T) {
	const kept = "codexcontinue/backend:0123456789ab"
	v, err := stacks.DecodeSettings(map[string]string{"rollback": `{"to": 41, "revision": "39a7f76",
		"images": {"backend": "` + kept + `", "redis": "redis:8.2.0"}, "model": "0123456789ab"}`}, nil)
	if err != nil {
		t.Fatal(err)
	}

	want := &stacks.RollbackSettings{
		To: 41, Revision: "39a7f76", Model: "0123456789ab",
		Images: map[string]string{"backend": kept, "redis": "redis:8.2.0"},
	}
	if d := cmp.Diff(want, v.Rollback); d != "" {
		t.Error(d)
	}

	v.AssumeSecrets = true
	s := load(t, "prod", v)
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
	if b := s.Service(stacks.Backend).Image; b.Kept != kept || b.Build == nil || b.Ref != "" {
		t.Errorf("the backend has %+v", b)
	}
	if r := s.Service(stacks.Redis).Image; r.Ref != "redis:8.2.0" || r.Kept != "" {
		t.Errorf("redis has %+v", r)
	}
	if f := s.Service(stacks.Frontend).Image; f.Kept != "" {
		t.Errorf("the frontend has %+v", f)
	}
}

func TestRollbackRefused(t *testing.T) {
	for text, want := range map[string]string{
		`{"to": 41}`:                        "rollback: needs to and images",
		`{"images": {"ml": "x:1"}}`:         "rollback: needs to and images",
		`{"to": 0, "images": {"ml": "x"}}`:  "rollback.to: must be from 1",
		`{"to": 1, "images": {}}`:           "rollback.images: is empty",
		`{"to": 1, "image": {"ml": "x:1"}}`: "rollback.image: unknown key: did you mean images?",
		`{"to": 1, "images": {"ml": "x:1"}, "model": "latest"}`: "rollback.model: must be a version of " +
			"the model",
		`{"to": 1, "images": {"web": "x:1"}}`:     "rollback.images.web: this stack has no such service",
		`{"to": 1, "images": {"ml": "x:1"}}`:      `rollback.images.ml: "x:1" is no image of codexcontinue/ml`,
		`{"to": 1, "images": {"redis": "redis"}}`: `rollback.images.redis: "redis" is no reference`,
		`{"to": 1, "images": {"ml": "codexcontinue/mlx:1"}}`: `rollback.images.ml: "codexcontinue/mlx:1" ` +
			"is no image of codexcontinue/ml",
	} {
		v, err := stacks.DecodeSettings(map[string]string{"rollback": text}, nil)
		if err == nil {
			v.AssumeSecrets = true
			_, err = stacks.Load("prod", v, checkout())
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}

	// In development there is no image of the sources.
	v, err := stacks.DecodeSettings(map[string]string{
		"rollback": `{"to": 1, "images": {"ml": "codexcontinue/ml-dev:1"}}`,
	}, nil)
	if err == nil {
		_, err = stacks.Load("dev", v, checkout())
	}
	if err == nil || !strings.Contains(err.Error(), "compiled of the checkout") {
		t.Errorf("dev: %v", err)
	}

	// The default in Pulumi.yaml.
	if v, err := stacks.DecodeSettings(map[string]string{"rollback": "{}"}, nil); err != nil ||
		v.Rollback != nil {
		t.Errorf("{}: %+v, %v", v.Rollback, err)
	}
}

// TestDataFormats names the image of each upstream service that keeps data with its format, so that
// a new version of it is not taken without asking what it writes: raise the format in stacks/base.go
// where its release notes say that the version before cannot read it.
func TestDataFormats(t *testing.T) {
	settings := withBackups(t, inDirectory)
	settings.AssumeSecrets = true
	s := load(t, "prod", settings)
	formats := s.DataFormats()
	for _, x := range []struct {
		service, image string
		format         int
	}{
		{stacks.Redis, "redis:8.2.1-bookworm", 1},
		{stacks.Ollama, "ollama/ollama:0.17.4", 1},
	} {
		svc := s.Service(x.service)
		image := svc.Image.Ref
		if svc.Image.Build != nil {
			image = svc.Image.Build.Args["OLLAMA_IMAGE"]
		}
		if image != x.image || formats[x.service] != x.format {
			t.Errorf("%s: format %d of %s, want %d of %s", x.service, formats[x.service], image, x.format,
				x.image)
		}
	}

	// Whatever writes to a volume or to Redis has one.
	for _, svc := range s.Services {
		keeps := false
		for _, m := range svc.Mounts {
			keeps = keeps || m.Kind == stacks.MountVolume || m.Kind == stacks.MountHost
		}
		for _, name := range svc.Calls {
			keeps = keeps || name == stacks.Redis
		}
		if keeps != (formats[svc.Name] > 0) {
			t.Errorf("%s: keeps data: %v, format %d", svc.Name, keeps, formats[svc.Name])
		}
	}

	// What is in a backup changes with them. Models are not in it.
	formats[stacks.Gate], formats[stacks.Knowledge] = gateenv.DataFormat, knowledgeenv.DataFormat
	delete(formats, stacks.Ollama)
	delete(formats, stacks.Backup)
	least, most := 1, 1
	for _, format := range formats {
		least, most = max(least, format), most+format-1
	}
	if archive.Data < least || archive.Data > most {
		t.Errorf("backups have data of version %d, and services the formats %v: raise archive.Data with "+
			"them", archive.Data, formats)
	}
}
