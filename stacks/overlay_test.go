package stacks

import (
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/backend/backendenv"
)

// TestSettingsOfRemoved expects an error for a setting of what the overlay has taken out.
func TestSettingsOfRemoved(t *testing.T) {
	s := base("x")
	s.Remove(Edge, Ollama)
	err := s.applySettings(Settings{
		GPU:  &GPU{Count: 1},
		Edge: EdgeSettings{Port: 8090},
	})
	for _, want := range []string{
		"codexcontinue:gpu: this stack has no ollama",
		"codexcontinue:edge: this stack has no edge",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}

// TestPasswordOfAddedService adds a service to a stack that asks for a password already.
func TestPasswordOfAddedService(t *testing.T) {
	s := base("x")
	s.requirePassword()
	s.Secrets = append(s.Secrets, Secret{Name: "other", ConfigKey: "other"})

	added := backend("x")
	added.Name = "added"
	s.Services = append(s.Services, added)
	secrets := map[string]bool{RedisPasswordKey: true, "other": true}
	if err := s.applySettings(Settings{Secrets: secrets}); err != nil {
		t.Fatal(err)
	}

	svc := s.Service("added")
	file := svc.Contract.(*backendenv.Config).RedisPasswordFile
	if len(svc.Files) != 1 || svc.Files[0].Path != file || svc.Files[0].Secret != RedisPassword {
		t.Errorf("files %+v and the variable %q, want the password once", svc.Files, file)
	}
}
