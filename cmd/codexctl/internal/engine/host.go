package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// defaultHost is the default address of an engine.
const defaultHost = "unix:///var/run/docker.sock"

// Host is the address of an engine.
type Host struct {
	// URL has the form of DOCKER_HOST: unix:///path, tcp://host:port, ssh://user@host.
	URL string

	// Source tells people where the address comes from.
	Source string

	// Export is set if a plain `pulumi up` would not find this engine without DOCKER_HOST.
	Export bool
}

// ResolveHost returns the address of the engine: the configured one (docker:host of the stack's
// config), else DOCKER_HOST, else that of the context in DOCKER_CONTEXT or in the docker command's
// configuration, else the first socket there is of the system's and Docker Desktop's. The docker
// provider knows all of these but the configured context, which the docker command would use.
func ResolveHost(configured string, getenv func(string) string) (Host, error) {
	if configured != "" {
		return Host{URL: configured, Source: "docker:host of the stack's config"}, nil
	}
	if h := getenv("DOCKER_HOST"); h != "" {
		return Host{URL: h, Source: "DOCKER_HOST"}, nil
	}

	dir := getenv("DOCKER_CONFIG")
	if dir == "" {
		dir = filepath.Join(getenv("HOME"), ".docker")
	}

	name, source := getenv("DOCKER_CONTEXT"), "DOCKER_CONTEXT"
	if name == "" {
		var err error
		if name, err = currentContext(dir); err != nil {
			return Host{}, err
		}
		source = "the docker context " + name
	}

	if name != "" && name != "default" {
		url, err := contextHost(dir, name)
		if err != nil {
			return Host{}, fmt.Errorf("engine: %s: %w: choose another with `docker context use`, "+
				"or set DOCKER_HOST",
				source, err)
		}
		return Host{URL: url, Source: source, Export: true}, nil
	}

	home := getenv("HOME")
	for _, sock := range []string{
		filepath.Join(home, ".docker/run/docker.sock"),
		filepath.Join(home, ".docker/desktop/docker.sock"),
	} {
		if _, err := os.Stat("/var/run/docker.sock"); err == nil || home == "" {
			break
		}
		if _, err := os.Stat(sock); err == nil {
			return Host{URL: "unix://" + sock, Source: "Docker Desktop", Export: true}, nil
		}
	}

	return Host{URL: defaultHost, Source: "the default socket"}, nil
}

// currentContext returns the context that `docker context use` chose, or "".
func currentContext(dir string) (string, error) {
	path := filepath.Join(dir, "config.json")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("engine: %w", err)
	}

	var conf struct {
		CurrentContext string `json:"currentContext"`
	}
	if err := json.Unmarshal(b, &conf); err != nil {
		return "", fmt.Errorf("engine: %s: %w", path, err)
	}

	return conf.CurrentContext, nil
}

// contextHost returns a context's address from the docker command's store, whose folders are named
// by the digest of the context's name.
func contextHost(dir, name string) (string, error) {
	sum := sha256.Sum256([]byte(name))
	id := hex.EncodeToString(sum[:])
	b, err := os.ReadFile(filepath.Join(dir, "contexts", "meta", id, "meta.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("there is no docker context %q", name)
	}
	if err != nil {
		return "", err
	}

	var meta struct {
		Endpoints map[string]struct{ Host string }
	}
	if err := json.Unmarshal(b, &meta); err != nil {
		return "", fmt.Errorf("the docker context %q: %w", name, err)
	}

	host := meta.Endpoints["docker"].Host
	if host == "" {
		return "", fmt.Errorf("the docker context %q has no engine", name)
	}

	if _, err := os.Stat(filepath.Join(dir, "contexts", "tls", id)); err == nil {
		return "", fmt.Errorf("the docker context %q has certificates, which the docker provider "+
			"does not take from it: set DOCKER_HOST, DOCKER_CERT_PATH and DOCKER_TLS_VERIFY",
			name)
	}

	return host, nil
}
