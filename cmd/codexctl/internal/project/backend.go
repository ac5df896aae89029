package project

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/config"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/environ"
)

// DevPassphrase opens the dev stack's config, whose encryption salt is in the repository. It is
// public on purpose: the dev stack holds no secrets, and nobody should have to invent a passphrase
// to try the project. No other stack uses it by default.
const DevPassphrase = "codexcontinue-dev"

// The environment variables that tell Pulumi where the state is and how it is opened.
const (
	BackendVar        = "PULUMI_BACKEND_URL"
	PassphraseVar     = "PULUMI_CONFIG_PASSPHRASE"
	PassphraseFileVar = "PULUMI_CONFIG_PASSPHRASE_FILE"
)

// Backend is the place of Pulumi's state.
type Backend struct {
	// URL is empty if Pulumi finds its own login.
	URL string

	// Source tells people what chose the backend.
	Source string

	// Default is set if nobody chose one and the state is kept inside the project.
	Default bool
}

// cloud reports whether the backend keeps secrets itself and needs no passphrase.
func (b Backend) cloud() bool {
	return b.URL == "" || strings.HasPrefix(b.URL, "https://") ||
		strings.HasPrefix(b.URL, "http://")
}

// Backend returns the backend that Pulumi would use (PULUMI_BACKEND_URL, the project's backend, an
// access token, the login), or without any of these a folder inside the project that git ignores.
func (p Project) Backend(env environ.Vars) (Backend, error) {
	if url := env.Get(BackendVar); url != "" {
		return Backend{URL: url, Source: BackendVar}, nil
	}
	if url := p.file.Backend.URL; url != "" {
		return Backend{URL: url, Source: "Pulumi.yaml"}, nil
	}

	current, err := login(env)
	if err != nil {
		return Backend{}, err
	}
	if current != "" {
		return Backend{URL: current, Source: "pulumi login"}, nil
	}
	if env.Get("PULUMI_ACCESS_TOKEN") != "" {
		return Backend{Source: "PULUMI_ACCESS_TOKEN"}, nil
	}

	return Backend{
		URL:     "file://" + filepath.ToSlash(p.StateDir()),
		Source:  "default",
		Default: true,
	}, nil
}

// StateDir returns the folder of the state without a login.
func (p Project) StateDir() string { return filepath.Join(p.Root, ".state") }

// Prepare creates the folder of the default backend, which only its owner can read: the state
// holds secrets, encrypted.
func (p Project) Prepare(b Backend) error {
	if !b.Default {
		return nil
	}
	if err := os.MkdirAll(p.StateDir(), 0o700); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return nil
}

// login returns the URL that `pulumi login` chose last, or "".
func login(env environ.Vars) (string, error) {
	dir := env.Get("PULUMI_CREDENTIALS_PATH")
	if dir == "" {
		dir = env.Get("PULUMI_HOME")
	}
	if dir == "" {
		dir = filepath.Join(env.Get("HOME"), ".pulumi")
	}

	path := filepath.Join(dir, "credentials.json")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("backend: %w", err)
	}

	var c struct{ Current string }
	if err := json.Unmarshal(b, &c); err != nil {
		return "", fmt.Errorf("backend: %s: %w: log in again with `pulumi login`", path, err)
	}

	return c.Current, nil
}

// PassphraseEnv returns the variables that Pulumi needs to open the stack's secrets, in addition to
// those that are set. Its error tells what to set.
func PassphraseEnv(s StackFile, b Backend, env environ.Vars) (map[string]string, error) {
	if _, ok := env.Lookup(PassphraseVar); ok {
		return nil, nil
	}
	if env.Get(PassphraseFileVar) != "" {
		return nil, nil
	}

	if s.SecretsProvider != "" && s.SecretsProvider != "passphrase" &&
		s.SecretsProvider != "default" {
		return nil, nil
	}

	if b.cloud() && s.EncryptionSalt == "" {
		return nil, nil
	}
	if s.Name == "dev" && (s.EncryptionSalt == "" || accepts(s.EncryptionSalt, DevPassphrase)) {
		return map[string]string{PassphraseVar: DevPassphrase}, nil
	}

	return nil, fmt.Errorf("stack %q: its secrets are encrypted with a passphrase: set %s to a "+
		"file that holds it (or %s to the passphrase itself); any one will do for the first up, keep it",
		s.Name, PassphraseFileVar, PassphraseVar)
}

// accepts reports whether the salt was made with the passphrase: it carries a known text that only
// that passphrase decrypts.
func accepts(salt, passphrase string) bool {
	// The salt is v1:<salt>:<a value encrypted by the crypter of that salt>, see pulumi's
	// pkg/secrets/passphrase.
	parts := strings.SplitN(salt, ":", 3)
	if len(parts) != 3 || parts[0] != "v1" {
		return false
	}

	raw, err := base64.StdEncoding.DecodeString(parts[1])
	if err != nil {
		return false
	}

	crypter := config.NewSymmetricCrypterFromPassphrase(passphrase, raw)
	text, err := crypter.DecryptValue(context.Background(), parts[2])
	return err == nil && text == "pulumi"
}
