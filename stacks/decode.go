package stacks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agnivade/levenshtein"
)

// Keys of secrets in the Pulumi config, without the namespace: the password of Redis, the secret by
// which an OpenID provider knows the stack, the key of the edge's certificate, the authority of the
// services' certificates, and the secret by which a storage of S3 knows who writes backups.
const (
	RedisPasswordKey     = "redisPassword"
	OIDCSecretKey        = "oidcClientSecret"
	TLSKeyKey            = "tlsKey"
	InternalAuthorityKey = "internalAuthority"
	BackupSecretKey      = "backupSecretKey"
)

var secretKeys = []string{
	RedisPasswordKey, OIDCSecretKey, TLSKeyKey, InternalAuthorityKey, BackupSecretKey,
}

// maxParallel is more answers at once than any accelerator serves: a greater number is a slip.
const maxParallel = 512

// fields maps a key to what reads its value: the text of a string or number, or the JSON
// of an object or list.
type fields map[string]func(text string) error

// DecodeSettings reads the config strictly. plain holds each set key's text (JSON where it is an
// object or a list), without the project's namespace; secret names the keys whose values are
// secret. All problems are reported at once, each as "codexcontinue:<key>: ...".
func DecodeSettings(plain map[string]string, secret []string) (Settings, error) {
	s := Settings{
		Target:   Docker,
		Services: map[string]ServiceSettings{},
		Volumes:  map[string]VolumeSettings{},
		Secrets:  map[string]bool{},
	}

	// What the edge may have depends on the target, which comes after it.
	if plain["target"] == string(Kubernetes) {
		s.Target = Kubernetes
	}

	known := fields{
		"overlay":         orEmpty(text(&s.Overlay)),
		"target":          s.decodeTarget,
		"debug":           orEmpty(boolean(&s.Debug)),
		"logLevel":        orEmpty(oneOf(&s.LogLevel, "debug", "info", "warn", "error")),
		"domain":          orEmpty(text(&s.Domain)),
		"domainTitle":     orEmpty(text(&s.DomainTitle)),
		"portOffset":      integer(&s.PortOffset, 0, 60000),
		"conversationTTL": orEmpty(s.decodeTTL),
		"model": object(fields{
			"name":      text(&s.Model.Name),
			"modelfile": text(&s.Model.Modelfile),
			"base":      text(&s.Model.Base),
			"parallel":  integer(&s.Model.Parallel, 1, maxParallel),
			"evals":     boolean(&s.Model.Evals),
		}),
		"edge":     s.decodeEdge,
		"gpu":      s.decodeGPU,
		"registry": orEmpty(text(&s.Registry)),
		"platform": orEmpty(s.decodePlatforms),
		"services": s.decodeServices,
		"volumes":  s.decodeVolumes,
		"redis":    s.decodeRedis,
		"signIn":   orEmpty(s.decodeSignIn),
		"session":  s.decodeSession,
		"egress":   s.decodeEgress,
		"limits":   s.decodeLimits,
		"audit":    s.decodeAudit,
		"learning": s.decodeLearning,
		"backup":   s.decodeBackup,
		"rollback": s.decodeRollback,

		"knowledge":   s.decodeKnowledge,
		"internalTLS": orEmpty(boolean(&s.InternalTLS)),
		"kubernetes":  s.decodeKubernetes,
	}

	for _, k := range secretKeys {
		known[k] = func(string) error {
			if k == InternalAuthorityKey {
				return errors.New("must be a secret: remove it, and make one with `codexctl " +
					"certificates new STACK`")
			}
			return fmt.Errorf("must be a secret: set it with `pulumi config set --secret %s:%s`",
				Project, k)
		}
	}

	var errs []error
	for _, key := range slices.Sorted(maps.Keys(plain)) {
		if err := known.decode(key, plain[key]); err != nil {
			errs = append(errs, prefixed(Project+":"+key, err))
		}
	}

	for _, key := range slices.Sorted(slices.Values(secret)) {
		switch {
		case slices.Contains(secretKeys, key):
			s.Secrets[key] = true
		case strings.HasPrefix(key, servicesKey+"."):
			if err := s.decodeServiceSecret(key); err != nil {
				errs = append(errs, prefixed(Project+":"+key, err))
			}
		case known[key] == nil:
			errs = append(errs, prefixed(Project+":"+key, known.unknown(key)))
		default:
			errs = append(errs,
				fmt.Errorf("%s:%s: is no secret: set it again without --secret", Project, key))
		}
	}

	return s, errors.Join(errs...)
}

func (f fields) decode(key, value string) error {
	read, ok := f[key]
	if !ok {
		return f.unknown(key)
	}
	return read(value)
}

func (f fields) unknown(key string) error { return unknownKey(key, slices.Sorted(maps.Keys(f))) }

// unknownKey returns an error with the valid keys, and the one that was probably meant.
func unknownKey(key string, names []string) error {
	best, distance := "", 3
	for _, n := range names {
		d := levenshtein.ComputeDistance(strings.ToLower(key), strings.ToLower(n))
		if d < distance {
			best, distance = n, d
		}
	}

	if best != "" {
		return fmt.Errorf("unknown key: did you mean %s? (valid: %s)", best,
			strings.Join(names, ", "))
	}

	return fmt.Errorf("unknown key (valid: %s)", strings.Join(names, ", "))
}

// prefixed puts a path before each of the joined errors.
func prefixed(path string, err error) error {
	if list, ok := err.(interface{ Unwrap() []error }); ok {
		var out []error
		for _, e := range list.Unwrap() {
			out = append(out, prefixed(path, e))
		}
		return errors.Join(out...)
	}

	var nested *pathError
	if errors.As(err, &nested) {
		return &pathError{path + "." + nested.path, nested.err}
	}

	return &pathError{path, err}
}

type pathError struct {
	path string
	err  error
}

func (e *pathError) Error() string { return e.path + ": " + e.err.Error() }
func (e *pathError) Unwrap() error { return e.err }

// object reads a JSON object whose keys are the fields.
func object(known fields) func(string) error {
	return func(value string) error {
		return eachKey(value, func(key, text string) error { return known.decode(key, text) })
	}
}

// eachKey calls read for each key of a JSON object, with a scalar's text or a structure's JSON.
func eachKey(value string, read func(key, text string) error) error {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal([]byte(value), &raw); err != nil || raw == nil {
		return fmt.Errorf("must be an object of keys and values, got %q", value)
	}

	var errs []error
	for _, key := range slices.Sorted(maps.Keys(raw)) {
		text := string(bytes.TrimSpace(raw[key]))
		if strings.HasPrefix(text, `"`) {
			if err := json.Unmarshal(raw[key], &text); err != nil {
				errs = append(errs, prefixed(key, err))
				continue
			}
		}

		if err := read(key, text); err != nil {
			errs = append(errs, prefixed(key, err))
		}
	}

	return errors.Join(errs...)
}

// list reads a JSON list, calling read with each scalar's text or structure's JSON.
func list(read func(string) error) func(string) error {
	return func(value string) error {
		var raw []json.RawMessage
		if err := json.Unmarshal([]byte(value), &raw); err != nil || len(raw) == 0 {
			return fmt.Errorf("must be a list, got %q", value)
		}

		var errs []error
		for i, item := range raw {
			text := string(bytes.TrimSpace(item))
			if strings.HasPrefix(text, `"`) {
				if err := json.Unmarshal(item, &text); err != nil {
					errs = append(errs, prefixed(strconv.Itoa(i), err))
					continue
				}
			}

			if err := read(text); err != nil {
				errs = append(errs, prefixed(strconv.Itoa(i), err))
			}
		}

		return errors.Join(errs...)
	}
}

// labels reads an object of text.
func labels(into *map[string]string) func(string) error {
	return func(value string) error {
		out := map[string]string{}
		err := eachKey(value, func(key, v string) error {
			out[key] = v
			return nil
		})
		if err == nil && len(out) == 0 {
			err = errors.New("is empty: remove the key")
		}

		*into = out
		return err
	}
}

func text(into *string) func(string) error {
	return func(v string) error {
		if strings.TrimSpace(v) == "" || v == "null" {
			return errors.New("is empty: remove the key to keep the default")
		}
		if strings.HasPrefix(v, "{") || strings.HasPrefix(v, "[") {
			return fmt.Errorf("must be text, got %q", v)
		}

		*into = v
		return nil
	}
}

// orEmpty reads the empty value as "not set". It is the default in Pulumi.yaml of keys that a stack
// may leave out.
func orEmpty(read func(string) error) func(string) error {
	return func(v string) error {
		if v == "" {
			return nil
		}
		return read(v)
	}
}

func boolean(into **bool) func(string) error {
	return func(v string) error {
		if v != "true" && v != "false" {
			return fmt.Errorf("must be true or false, got %q", v)
		}
		b := v == "true"
		*into = &b
		return nil
	}
}

func oneOf(into *string, values ...string) func(string) error {
	return func(v string) error {
		if !slices.Contains(values, v) {
			return fmt.Errorf("%q is none of %s", v, strings.Join(values, ", "))
		}
		*into = v
		return nil
	}
}

func integer(into *int, low, high int) func(string) error {
	return func(v string) error {
		n, err := strconv.Atoi(v)
		if err != nil {
			return fmt.Errorf("must be a whole number, got %q", v)
		}
		if n < low || n > high {
			return fmt.Errorf("must be from %d to %d, got %d", low, high, n)
		}

		*into = n
		return nil
	}
}

// quantity reads an amount of a resource. Nothing at all is refused: it is
// what no limit looks like.
func quantity[T ~int64](into *T, parse func(string) (T, error)) func(string) error {
	return func(v string) error {
		q, err := parse(v)
		if err == nil && q == 0 {
			err = errors.New("must be more than nothing: remove the key to keep the default")
		}
		*into = q
		return err
	}
}

func (s *Settings) decodeTarget(v string) error {
	var t string
	if err := oneOf(&t, string(Docker), string(Kubernetes))(v); err != nil {
		return err
	}
	s.Target = Target(t)
	return nil
}

func (s *Settings) decodeTTL(v string) error {
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 {
		return fmt.Errorf("%q is no duration: write it like 720h, "+
			"or 0s to keep conversations for ever", v)
	}
	s.ConversationTTL = &d
	return nil
}
