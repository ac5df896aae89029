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

// TestTLSOfAddedService adds a service with an image of its own to a stack that speaks TLS inside.
func TestTLSOfAddedService(t *testing.T) {
	s := base("x")
	s.requireAuthority()
	s.Services = append(s.Services, Service{Name: "added"})
	err := s.applyInternalTLS()
	if want := "the service added has an image of its own, and nobody says how it speaks TLS"; err == nil ||
		!strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}

	s = base("x")
	s.requireAuthority()
	s.Services = append(s.Services, Service{Name: "added", SpeaksTLS: true})
	if err := s.applyInternalTLS(); err != nil {
		t.Error(err)
	}
	if files := s.Service("added").Files; len(files) != 2 || files[0].Path != CertificateFile {
		t.Errorf("the service has %+v, want its certificate and the authorities", files)
	}
}

// TestResolverName keeps an overlay from having a service of the resolver's name, on any target.
func TestResolverName(t *testing.T) {
	for _, target := range []Target{Docker, Kubernetes} {
		s := Stack{Services: []Service{{Name: Resolver}}}
		err := s.applyResolver(target)
		if err == nil || !strings.Contains(err.Error(), "services.resolver: the name is that of") {
			t.Errorf("on %s: %v", target, err)
		}
	}
}

// TestRedisUserOfAddedService adds a service of which nobody says what it may do in Redis.
func TestRedisUserOfAddedService(t *testing.T) {
	s := base("x")
	added := backend("x")
	added.Name = "added"
	s.Services = append(s.Services, added)
	want := "services.added: uses Redis, and nobody says what it may do there: " +
		"add its rules to redisACL in stacks/redis.go"
	if err := s.finishRedis(); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}

	s.Remove(Redis) // in somebody else's it is what its owner says
	if err := s.finishRedis(); err != nil {
		t.Error(err)
	}
}
