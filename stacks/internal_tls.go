package stacks

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/stacks/authority"
)

// InternalAuthority is the secret that the services' certificates come of.
const InternalAuthority = "internal-authority"

// Where each service has its certificate with the key, and those of the authorities that it trusts.
const (
	CertificateFile = secretsDir + "/certificate.pem"
	AuthoritiesFile = secretsDir + "/authorities.pem"
)

// ollamaLoopback is the port of Ollama on its container's loopback address where the first process
// of that container ends TLS at the other one.
const ollamaLoopback = 11433

// ollamaHost tells Ollama, and its commands, where it listens.
const ollamaHost = "OLLAMA_HOST"

// requireAuthority makes the services speak TLS with each other.
func (s *Stack) requireAuthority() {
	s.Secrets = append(s.Secrets, Secret{Name: InternalAuthority, ConfigKey: InternalAuthorityKey})
}

// CheckSecret returns an error if the value cannot be that of the secret. It does not show it.
func (s *Stack) CheckSecret(name, value string) error {
	if name == TLSKey {
		return s.checkKey(value)
	}
	if name != InternalAuthority {
		return nil
	}
	if _, err := authority.Parse(value); err != nil {
		return fmt.Errorf("%s:%s: %w: remove it with `pulumi config rm -s %s %[1]s:%[2]s` and make "+
			"one with `codexctl certificates new %[4]s`", Project, InternalAuthorityKey, err, s.Name)
	}
	return nil
}

// InternalTLS reports whether the services speak TLS with each other.
func (s *Stack) InternalTLS() bool {
	return slices.ContainsFunc(s.Secrets, func(x Secret) bool {
		return x.Name == InternalAuthority
	})
}

// chooseInternalTLS turns TLS inside on or off, as the settings ask.
func (s *Stack) chooseInternalTLS(v Settings) error {
	switch on := v.InternalTLS; {
	case on == nil:
	case *on && s.Development:
		return fmt.Errorf("%s:internalTLS: a development stack publishes each service on this "+
			"machine, for tools that speak plain HTTP: remove the key", Project)
	case *on && !s.InternalTLS():
		s.requireAuthority()
	case !*on:
		s.Secrets = slices.DeleteFunc(s.Secrets, func(x Secret) bool {
			return x.Name == InternalAuthority
		})
	}

	if v.Secrets[InternalAuthorityKey] && !s.InternalTLS() {
		return fmt.Errorf("%s:%s: is set, and the services do not speak TLS: set %[1]s:internalTLS "+
			"to true, or remove the key with `pulumi config rm -s %s %[1]s:%[2]s`", Project,
			InternalAuthorityKey, s.Name)
	}

	if s.InternalTLS() && v.Redis != nil && strings.HasPrefix(v.Redis.URL, "redis://") {
		return fmt.Errorf("%s:redis.url: redis:// is in the clear, and the services of this stack "+
			"speak TLS (internalTLS): write rediss://, which that Redis has to speak", Project)
	}

	return nil
}

// applyInternalTLS gives each service its certificate, and has it call others by TLS. Who may call
// it are those that say so (Service.Calls).
func (s *Stack) applyInternalTLS() error {
	if !s.InternalTLS() {
		return nil
	}

	var errs []error
	for i := range s.Services {
		svc := &s.Services[i]
		if svc.Name == Resolver { // the resolvers of C libraries ask in the clear
			continue
		}

		svc.Files = append(svc.Files,
			File{
				Path:    CertificateFile,
				Secret:  InternalAuthority,
				Content: CertificateFor(svc.Name),
			},
			File{Path: AuthoritiesFile, Secret: InternalAuthority, Content: AuthoritiesToken})

		switch {
		case svc.Contract != nil:
			s.secure(svc)
		case svc.Name == Redis:
			errs = append(errs, s.secureRedis(svc))
		case svc.Name == Ollama:
			errs = append(errs, s.secureOllama(svc))
		case svc.Name == Edge: // see renderEdge
		case !svc.SpeaksTLS:
			errs = append(errs, fmt.Errorf("%s:internalTLS: the service %s has an image of its own, "+
				"and nobody says how it speaks TLS: see Service.SpeaksTLS in stacks/stack.go", Project,
				svc.Name))
		}
	}

	return errors.Join(errs...)
}

// callers returns the names of the services that call the one of the name.
func (s *Stack) callers(name string) []string {
	var out []string
	for _, svc := range s.Services {
		if slices.Contains(svc.Calls, name) {
			out = append(out, svc.Name)
		}
	}
	return out
}

// secure has a service of this repository speak TLS.
func (s *Stack) secure(svc *Service) {
	svc.Contract.Shared().TLS = contract.TLS{
		TLSCertificateFile: CertificateFile,
		TLSAuthoritiesFile: AuthoritiesFile,
		TLSCallers:         s.callers(svc.Name),
	}

	if c, ok := svc.Contract.(contract.Caller); ok {
		for _, peer := range c.Peers() {
			*peer = toHTTPS(*peer)
		}
	}

	for i := range svc.Health.Command {
		svc.Health.Command[i] = toHTTPS(svc.Health.Command[i])
	}

	// Another Redis than the stack's own has an authority of its own.
	if c, ok := svc.Contract.(contract.RedisUser); ok && s.Service(Redis) != nil {
		vars := c.RedisVariables()
		vars.RedisURL = strings.Replace(vars.RedisURL, "redis://", "rediss://", 1)
		vars.RedisCAFile, vars.RedisCertificateFile = AuthoritiesFile, CertificateFile
	}
}

func toHTTPS(url string) string {
	if rest, ok := strings.CutPrefix(url, "http://"); ok {
		return "https://" + rest
	}
	return url
}

// redisTLS is what its configuration has instead of the port without TLS.
const redisTLS = `
port 0
tls-port 6379
tls-cert-file ` + CertificateFile + `
tls-key-file ` + CertificateFile + `
tls-ca-cert-file ` + AuthoritiesFile + `
tls-protocols "TLSv1.3"
# Whoever has no certificate of the stack's authority says nothing here.
tls-auth-clients yes
`

// redisCLIVariable holds options for the commands of Redis' own start script.
const redisCLIVariable = "REDIS_CLI_OPTIONS"

// secureRedis has the stack's own Redis speak TLS alone. Its users say which service somebody is.
func (s *Stack) secureRedis(r *Service) error {
	const plain = "\nport 6379\n"
	i := slices.IndexFunc(r.Files, func(f File) bool { return f.Path == redisConfig })
	if i < 0 || !strings.Contains(r.Files[i].Content, plain) {
		return fmt.Errorf("%s:internalTLS: %s of %s has no line %q to replace", Project, redisConfig,
			r.Name, strings.TrimSpace(plain))
	}
	r.Files[i].Content = strings.Replace(r.Files[i].Content, plain, redisTLS, 1)

	options := []string{
		"--tls", "--cacert", AuthoritiesFile, "--cert", CertificateFile, "--key", CertificateFile,
	}
	r.Health.Command = slices.Insert(slices.Clone(r.Health.Command), 1, options...)
	if r.Env == nil {
		r.Env = map[string]string{}
	}
	r.Env[redisCLIVariable] = strings.Join(options, " ")
	return nil
}

// secureOllama has the first process of Ollama's container end TLS, for ml alone. Ollama itself
// listens on the loopback address behind it. A cluster asks it by its own command, as nothing else
// gets there.
func (s *Stack) secureOllama(o *Service) error {
	for _, m := range o.Mounts {
		if v, ok := s.Volume(m.Source); ok && v.Shared {
			return fmt.Errorf("%s:volumes.%s.shared: cannot be with %[1]s:internalTLS, as the Job "+
				"that fills the volume speaks plain HTTP: remove one of the two", Project, v.Name)
		}
	}

	o.Env[ollamaHost] = net.JoinHostPort(loopback, strconv.Itoa(ollamaLoopback))
	o.Env["TLS_CERTIFICATE_FILE"], o.Env["TLS_AUTHORITIES_FILE"] = CertificateFile, AuthoritiesFile
	o.Env["TLS_CALLERS"] = strings.Join(s.callers(o.Name), ",")
	o.Health.LivePath, o.Health.ReadyPath = "", ""
	return nil
}

// OllamaPort returns the port at which Ollama is reached, in plain HTTP, from within its container.
func (s *Stack) OllamaPort() int {
	o := s.Service(Ollama)
	if _, port, err := net.SplitHostPort(o.Env[ollamaHost]); err == nil {
		if n, err := strconv.Atoi(port); err == nil {
			return n
		}
	}
	return o.Ports[0].Container
}

// EndsTLS reports whether the service speaks TLS at its first port with the others of its stack.
func (s Service) EndsTLS() bool {
	return s.Contract != nil && s.Contract.Shared().TLSCertificateFile != ""
}

// CertificateFiles returns the files by which the service speaks TLS with the others of its stack.
func (s Service) CertificateFiles() []File {
	var out []File
	for _, f := range s.Files {
		if f.Secret == InternalAuthority {
			out = append(out, f)
		}
	}
	return out
}
