package scaffold_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/scaffold"
)

// TestDomainInTree adds a domain to a copy of the tree. Of the files that were there the list of
// overlays changes alone, and the new stack passes the tests that every stack passes, as one of
// development too.
func TestDomainInTree(t *testing.T) {
	dir := copyOfTree(t)
	// It is as long as a name can be and sorts before the others; the tree has none of that name.
	name, err := scaffold.ParseName("a-name-of-a-test-at-length")
	if err != nil {
		t.Fatal(err)
	}
	change, err := scaffold.Domain(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	if err := change.Write(dir); err != nil {
		t.Fatal(err)
	}

	run(t, dir, "go", "test", "./stacks", "-run", "^TestShippedStacks$", "-update")
	run(t, dir, "go", "vet", "./stacks/...")
	run(t, dir, "go", "test", "./stacks/...", "./modelfiles", withoutServers)
	if unformatted := run(t, dir, "gofmt", "-l", "stacks"); unformatted != "" {
		t.Errorf("not formatted:\n%s", unformatted)
	}

	for line := range strings.Lines(run(t, dir, "git", "status", "--porcelain", "-uall")) {
		kind, path := strings.TrimSpace(line[:2]), strings.TrimSpace(line[2:])
		switch {
		case kind == "M" && path == "stacks/overlay.go":
		case kind == "??" && strings.Contains(path, string(name)):
		default:
			t.Errorf("the domain changes %s %s", kind, path)
		}
	}

	overlay := filepath.Join(dir, "stacks", string(name)+".go")
	text, err := os.ReadFile(overlay)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, overlay, strings.Replace(string(text), "\tprod(s, c)", "\tdev(s, c)", 1))
	run(t, dir, "go", "test", "-vet=off", "./infra/docker", "./infra/targets",
		"-run", "^(TestBenchmark|TestSameDescription)$")

	ownParts(t, dir, name, overlay)
}

// withoutServers leaves out the tests that start Redis and Caddy: those of the tree itself do the
// same.
const withoutServers = "-skip=^Test(Edge|Internal(Redis|Edge)|Password|HealthOn|HealthWhile|Redis)"

// ownOverlay is what a domain may make of a stack: another Redis, no edge, and a service of its own
// with an image, a volume, a network and secrets.
const ownOverlay = `package stacks

import "time"

func aNameOfATestAtLengthDomain(s *Stack, c Checkout) {
	healthcare(s, c)
	s.domain("a-name-of-a-test-at-length")

	s.Service(Redis).Image = Image{Ref: "valkey/valkey:8.1.4"}
	s.Remove(Edge)

	s.Networks = []Network{{Name: privateNetwork, Internal: true}, {Name: "own", Internal: true}}
	s.Volumes = append(s.Volumes, Volume{Name: "index", Size: GiB, SingleWriter: true})
	s.Secrets = append(s.Secrets, Secret{Name: "index-key", ConfigKey: "indexKey"})
	s.Services = append(s.Services, Service{
		Name:  "index",
		Image: Image{Ref: "getmeili/meilisearch:v1.22.1"},
		Env: map[string]string{
			"MEILI_DB_PATH":          "/data",
			"MEILI_SSL_CERT_PATH":    CertificateFile,
			"MEILI_SSL_KEY_PATH":     CertificateFile,
			"MEILI_SSL_AUTH_PATH":    AuthoritiesFile,
			"MEILI_SSL_REQUIRE_AUTH": "true",
		},
		SpeaksTLS: true,
		Ports:     []Port{{Name: "http", Container: 7700}},
		Networks:  []string{"own"},
		Mounts:    []Mount{{Kind: MountVolume, Source: "index", Target: "/data"}},
		Files: []File{
			{Path: "/run/secrets/index-key", Secret: "index-key"},
			{Path: "/run/secrets/pepper", Secret: RedisPassword, Content: SecretFor("index")},
		},
		Health: health("/health", "/health", "curl", "-f", "--cacert", AuthoritiesFile,
			"--cert", CertificateFile, "--connect-to", "index:7700:127.0.0.1:7700",
			"https://index:7700/health"),
		Replicas:  1,
		Resources: Resources{CPU: 500, Memory: 512 * MiB, PIDs: 64},
		Security:  Security{UID: 10002, GID: 10002},
		StopGrace: stopGrace, Log: logs(), StartTimeout: time.Minute,
	})

	ml := s.Service(ML)
	ml.Networks = append(ml.Networks, "own")
	ml.DependsOn, ml.Calls = append(ml.DependsOn, "index"), append(ml.Calls, "index")
	ml.Env = map[string]string{"INDEX_URL": url("https", "index", 7700)}
}
`

// ownParts gives the domain in the copy parts of its own, for which one line of stacks is edited
// that names the secret, and no other package.
func ownParts(t *testing.T, dir string, name scaffold.Name, overlay string) {
	t.Helper()
	writeFile(t, overlay, ownOverlay)
	decode := filepath.Join(dir, "stacks/decode.go")
	text, err := os.ReadFile(decode)
	if err != nil {
		t.Fatal(err)
	}

	const keys = "var secretKeys = []string{"
	if !strings.Contains(string(text), keys) {
		t.Fatalf("stacks/decode.go has no %s", keys)
	}
	writeFile(t, decode, strings.Replace(string(text), keys, keys+`"indexKey", `, 1))
	writeFile(t, filepath.Join(dir, "Pulumi."+string(name)+".yaml"), "config: {}\n")

	run(t, dir, "go", "test", "./stacks", "-run", "^TestShippedStacks$", "-update")
	run(t, dir, "go", "test", "-vet=off", "./infra/targets", "./infra/policy", "-run",
		"^(TestSameStack|TestShippedStacks|TestProjectIsRegistered|TestObjectsAreRegistered)$")

	codexctl := filepath.Join(t.TempDir(), "codexctl")
	run(t, dir, "go", "build", "-o", codexctl, "./cmd/codexctl")
	for target, drawn := range map[string][]string{
		"docker":     {"valkey:8.1.4", "volume_index[(", "own-a-name-of", "service_ml --> service_index"},
		"kubernetes": {"valkey:8.1.4", "volume_index[(", "service_ml --> service_index"},
	} {
		run(t, dir, codexctl, "policy", string(name), "--target", target)
		picture := run(t, dir, codexctl, "graph", string(name), "--target", target)
		for _, part := range drawn {
			if !strings.Contains(picture, part) {
				t.Errorf("the picture on %s lacks %s:\n%s", target, part, picture)
			}
		}
		if strings.Contains(picture, "service_edge") {
			t.Errorf("the picture on %s has an edge:\n%s", target, picture)
		}
	}

	// It ends with 2 as something becomes exposed: ml reads the Modelfiles of the machine.
	said := run(t, dir, "sh", "-c", codexctl+" diff --base HEAD --stack "+string(name)+
		" || [ $? = 2 ]")
	for _, part := range []string{"stack " + string(name), "RemoteImage index, redis: added",
		"index volume: (none)"} {
		if !strings.Contains(said, part) {
			t.Errorf("diff lacks %s:\n%s", part, said)
		}
	}
}
