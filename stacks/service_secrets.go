package stacks

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// SecretSource is where the value of a service's secret comes from. The zero value is the config.
type SecretSource struct {
	// Existing and External are places in a cluster; see Secret.
	Existing *ExistingSecret
	External *ExternalSecret
}

// serviceSecretRule is the name of a secret in a service's settings: that of the variable which,
// with _FILE behind it, has the path of the secret's file.
var serviceSecretRule = regexp.MustCompile(`^[A-Z][A-Z0-9]*(_[A-Z0-9]+)*$`)

const (
	servicesKey       = "services"
	serviceSecretsKey = "secrets"
)

// ServiceSecretKey returns the key, in the config, of a secret of a service: the path of its value
// as `pulumi config set --path` takes it.
func ServiceSecretKey(service, name string) string {
	return strings.Join([]string{servicesKey, service, serviceSecretsKey, name}, ".")
}

// CutServiceSecret returns the service and the name in a key of ServiceSecretKey.
func CutServiceSecret(key string) (service, name string, ok bool) {
	parts := strings.Split(key, ".")
	if len(parts) != 4 || parts[0] != servicesKey || parts[2] != serviceSecretsKey {
		return "", "", false
	}
	return parts[1], parts[3], true
}

// setServiceSecret returns the command that sets the value of a service's secret.
func setServiceSecret(key string) string {
	return fmt.Sprintf("pulumi config set --secret --path %s:%s", Project, key)
}

// decodeServiceSecret adds the secret of a service that the config holds at the key.
func (s *Settings) decodeServiceSecret(key string) error {
	service, name, ok := CutServiceSecret(key)
	if !ok {
		return errors.New("is no secret: set it again without --secret")
	}

	v := s.Services[service]
	err := v.addServiceSecret(name, SecretSource{})
	s.Services[service] = v
	return err
}

// addServiceSecret adds a secret of a service, whose name it checks.
func (s *ServiceSettings) addServiceSecret(name string, from SecretSource) error {
	if !serviceSecretRule.MatchString(name) {
		return errors.New("is no name of a secret: write it like API_KEY, in upper-case letters, " +
			"digits and underscores")
	}
	if slices.Contains(ownSecrets, secretFile(name)) {
		return errors.New("is a secret of the stack's own: choose another name")
	}
	if s.Secrets == nil {
		s.Secrets = map[string]SecretSource{}
	}
	s.Secrets[name] = from
	return nil
}

// ownSecrets are the names of the stack's own, whose files stand beside those of a service.
var ownSecrets = []string{RedisPassword, OIDCSecret, TLSKey, InternalAuthority}

// decodeSecrets reads the secrets of a service that the config does not hold. Those that it holds are
// secret there, so that they come as keys of their own. No error shows a value.
func (s *ServiceSettings) decodeSecrets(service string) func(string) error {
	return func(v string) error {
		if !strings.HasPrefix(v, "{") {
			return errors.New("must be an object of names and values")
		}
		return eachKey(v, func(name, value string) error {
			if !strings.HasPrefix(value, "{") {
				return fmt.Errorf("must be a secret: set it with `%s`",
					setServiceSecret(ServiceSecretKey(service, name)))
			}

			from := SecretSource{Existing: &ExistingSecret{}}
			var external string
			err := object(fields{
				"secret": text(&from.Existing.Name),
				"key":    text(&from.Existing.Key),
				"externalSecret": func(v string) error {
					external = v
					return nil
				},
			})(value)
			switch {
			case err != nil:
				return err
			case external != "" && *from.Existing != (ExistingSecret{}):
				return errors.New("set either secret and key, or externalSecret")
			case external != "":
				from = SecretSource{External: &ExternalSecret{Kind: "SecretStore"}}
				if err := from.External.decode(external); err != nil {
					return prefixed("externalSecret", err)
				}
			case from.Existing.Name == "" || from.Existing.Key == "":
				return errors.New("needs secret, the name of a Secret in the stack's namespace, and " +
					"key, one of its keys")
			case !objectNameRule.MatchString(from.Existing.Name):
				return prefixed("secret", errors.New("is no name of a Secret"))
			}

			return s.addServiceSecret(name, from)
		})
	}
}

// objectNameRule is what names of objects of a cluster are made of (RFC 1123's subdomain).
var objectNameRule = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)

func (e *ExternalSecret) decode(v string) error {
	err := object(fields{
		"store":    text(&e.Store),
		"kind":     oneOf(&e.Kind, "SecretStore", "ClusterSecretStore"),
		"key":      text(&e.Key),
		"property": text(&e.Property),
	})(v)
	switch {
	case err != nil:
		return err
	case e.Store == "" || e.Key == "":
		return errors.New("needs store, a SecretStore in the stack's namespace or, with kind, a " +
			"ClusterSecretStore, and key, the secret's name there")
	case !objectNameRule.MatchString(e.Store):
		return prefixed("store", errors.New("is no name of a store"))
	}
	return nil
}

// secretFile returns the name of the file of a service's secret: api-key of API_KEY.
func secretFile(name string) string {
	return strings.ToLower(strings.ReplaceAll(name, "_", "-"))
}

// applySecrets gives the service its secrets as files, each with the variable that has its path.
func (s *Stack) applySecrets(svc *Service, secrets map[string]SecretSource) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		key, from := ServiceSecretKey(svc.Name, name), secrets[name]
		wrong := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("%s:%s: %s", Project, key, fmt.Sprintf(format, args...)))
		}

		secret := Secret{
			Name: svc.Name + "-" + secretFile(name), ConfigKey: key,
			Existing: from.Existing, External: from.External,
		}
		variable := name + "_FILE"
		_, taken := svc.Env[variable]
		switch {
		case !nameRule.MatchString(secret.Name):
			wrong("is too long: %s has more than 40 characters", secret.Name)
			continue
		case taken:
			wrong("the service has a variable %s already: choose another name", variable)
			continue
		case slices.ContainsFunc(s.Secrets, func(x Secret) bool { return x.Name == secret.Name }):
			wrong("is called %s, as another secret of the stack is: choose another name", secret.Name)
			continue
		}

		file := File{Path: path.Join(secretsDir, secretFile(name)), Secret: secret.Name}
		s.Secrets = append(s.Secrets, secret)
		svc.Files = append(svc.Files, file)
		if svc.Env = maps.Clone(svc.Env); svc.Env == nil {
			svc.Env = map[string]string{}
		}
		svc.Env[variable] = file.Path
	}

	return errors.Join(errs...)
}
