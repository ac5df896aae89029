package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/deploy"
	"github.com/codexcontinue/codexcontinue/infra/program"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// isRelease reports whether the update made the stack what `codexctl up` recorded.
func isRelease(u deploy.Update) bool { return u.Kind == "update" && u.Release != nil }

// earlier returns the release to go back to: that of the number or, if it is 0, the last one that
// stands before what the stack is now and differs from it. One of which not all was made differs
// from any, as not all of a release is recorded.
func earlier(newestFirst []deploy.Update, number int) (deploy.Update, error) {
	if number > 0 {
		return numbered(newestFirst, number)
	}

	i := slices.IndexFunc(newestFirst, isRelease)
	if i < 0 {
		return deploy.Update{}, errors.New("no `codexctl up` is in its history: there is nothing to go " +
			"back to")
	}

	now := newestFirst[i]
	before := now.Number
	if n := now.Release.Rollback; n > 0 { // the next one goes further back
		before = n
	}

	for _, u := range newestFirst[i+1:] {
		if !isRelease(u) || !u.Stands() || u.Number >= before {
			continue
		}
		if n := u.Release.Rollback; n > 0 { // it was a release before it
			to, err := numbered(newestFirst, n)
			if err != nil { // it is of another state
				continue
			}
			return to, nil
		}
		if !now.Made() || now.Release.Rollback > 0 || differs(u.Release, now.Release) {
			return u, nil
		}
	}

	return deploy.Update{}, errors.New("there is no earlier release that succeeded: `codexctl history` " +
		"lists all")
}

// numbered returns the release of the number, which has to stand.
func numbered(list []deploy.Update, number int) (deploy.Update, error) {
	i := slices.IndexFunc(list, func(u deploy.Update) bool { return u.Number == number })
	switch {
	case i < 0:
		return deploy.Update{}, fmt.Errorf("there is no %d in its history: `codexctl history` lists all",
			number)
	case list[i].Kind != "update":
		return deploy.Update{}, fmt.Errorf("%d is no up: it was a %s", number, list[i].Kind)
	case list[i].Release == nil:
		return deploy.Update{}, fmt.Errorf("%d was made by another program than codexctl, which records "+
			"the images", number)
	case !list[i].Stands():
		return deploy.Update{}, fmt.Errorf("%d ended as %q, so the stack was never that: choose one "+
			"that succeeded", number, list[i].Result)
	}

	return list[i], nil
}

// sourced returns the update with the revision of the sources of its images. One that was made in a
// rollback has recorded that of the checkout.
func sourced(list []deploy.Update, u deploy.Update) deploy.Update {
	r := *u.Release
	for at := u.Number; ; {
		i := slices.IndexFunc(list, func(of deploy.Update) bool {
			return of.Number == r.Rollback && of.Number < at && isRelease(of)
		})
		if i < 0 {
			break
		}
		at, r.Revision, r.Rollback = list[i].Number, list[i].Release.Revision, list[i].Release.Rollback
	}

	r.Rollback = u.Release.Rollback
	u.Release = &r
	return u
}

// differs reports whether two releases differ in what a rollback brings back.
func differs(a, b *deploy.Release) bool {
	return a.Settings != b.Settings || a.Model != b.Model || !maps.Equal(a.Images, b.Images)
}

// readable returns an error if a release since has written what the images of the earlier one cannot
// read. An up that failed counts: what it started may have written.
func readable(list []deploy.Update, to deploy.Update) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(to.Release.Images)) {
		reads, since := format(to.Release, name), 0
		for _, u := range list { // it ends with the first one
			if isRelease(u) && format(u.Release, name) > reads {
				since = u.Number
			}
		}

		if since > 0 {
			errs = append(errs, fmt.Errorf("%s: since %d it may have stored what the image of %d cannot "+
				"read: correct what is wrong by a new release, or restore a backup from before %[2]d",
				name, since, to.Number))
		}
	}

	return errors.Join(errs...)
}

// unrecorded returns the numbers of the updates since the release that say nothing of what they
// store: a plain `pulumi up` records neither images nor formats. The last one is first.
func unrecorded(list []deploy.Update, to deploy.Update) (numbers []string) {
	for _, u := range list {
		if u.Kind == "update" && u.Release == nil && u.Number > to.Number {
			numbers = append(numbers, strconv.Itoa(u.Number))
		}
	}
	return numbers
}

// format returns that of the service's data in the release. Before there was a record all were of
// the first.
func format(r *deploy.Release, service string) int { return max(1, r.Data[service]) }

// modelKey and rollbackKey are the settings with the model, and with the release that the stack has
// gone back to. backupKey is the one with its backups, and edgeKey the one with the certificate that
// the secret tlsKey is the key of.
const (
	modelKey    = stacks.Project + ":model"
	rollbackKey = stacks.Project + ":" + stacks.RollbackKey
	backupKey   = stacks.Project + ":backup"
	edgeKey     = stacks.Project + ":edge"
	tlsKey      = stacks.Project + ":" + stacks.TLSKeyKey
)

// edits are changes of a settings file: plain values by full key, and keys that are removed.
type edits struct {
	set    map[string]string
	remove []string

	// stays says why, by full key, settings are left alone that were not as they are.
	stays map[string]string
}

// editsBack returns what makes the settings those of the earlier release. Secrets stay as they are,
// and so do an edge with another certificate, whose key is a secret, whatever is no setting of the
// project, and backups: they are to be there when a release was bad.
func editsBack(now, defaults program.Config, to deploy.Update) edits {
	e := edits{set: map[string]string{}, stays: map[string]string{}}
	keys := slices.Concat(slices.Collect(maps.Keys(now.Plain)), slices.Collect(maps.Keys(to.Config)))
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		if !strings.HasPrefix(key, stacks.Project+":") || key == rollbackKey {
			continue
		}
		if _, secret := now.Secret[key]; secret {
			continue
		}
		if slices.Contains(to.Secrets, key) {
			e.stays[key] = "it was a secret then"
			if key == deploy.Services { // of which WithServices opens the rest
				e.stays[key] = "what it was is encrypted, and today's passphrase or key does not open it"
			}
			continue
		}

		byDefault, declared := defaults.Plain[key]
		want, ok := to.Config[key]
		if !ok {
			want, ok = byDefault, declared
		}

		have, set := now.Plain[key]
		if key == deploy.Services {
			have, want = withoutEmpty(have), servicesBack(have, want, secretsInside(now, to))
			ok, set = ok || want != "{}", set || have != "{}"
		}

		switch {
		case ok == set && sameValue(want, have):
		case key == backupKey:
			e.stays[key] = "a rollback neither ends backups nor moves them"
		case key == edgeKey && certificate(want) != certificate(have):
			e.stays[key] = "its certificate is another, and " + tlsKey + ", the key, stays"
		case key == deploy.Services && len(secretsInside(now, deploy.Update{})) > 0: // it has them
			e.set[key] = want
		case !ok || declared && sameValue(want, byDefault):
			e.remove = append(e.remove, key)
		default:
			e.set[key] = want
		}
	}

	return e
}

// certificate returns the one in the value of edgeKey; "" if there is none.
func certificate(edge string) string {
	var v struct{ TLS struct{ Certificate string } }
	// Of settings that are none the next load says what is wrong.
	_ = json.Unmarshal([]byte(edge), &v)
	return v.TLS.Certificate
}

// secretsInside returns the full keys of the secrets that services have now or had then.
func secretsInside(now program.Config, to deploy.Update) (keys []string) {
	for _, key := range slices.Concat(slices.Collect(maps.Keys(now.Secret)), to.Secrets) {
		if strings.HasPrefix(key, deploy.Services+".") {
			keys = append(keys, key)
		}
	}
	return keys
}

// servicesBack returns the settings of services that they had then, both without the values of
// secrets. What is a secret at one of the keys, or was then, stays as it is now: it is there as a
// secret, or it is the place of one in a cluster, or there is none.
func servicesBack(now, then string, secrets []string) string {
	have, want := services(now), services(then)
	for _, key := range secrets {
		service, name, _ := stacks.CutServiceSecret(strings.TrimPrefix(key, stacks.Project+":"))
		if in, ok := want[service]["secrets"].(map[string]any); ok {
			delete(in, name)
		}

		in, _ := have[service]["secrets"].(map[string]any)
		place, ok := in[name]
		if !ok {
			continue
		}
		if want[service] == nil {
			want[service] = map[string]any{}
		}
		if _, ok := want[service]["secrets"].(map[string]any); !ok {
			want[service]["secrets"] = map[string]any{}
		}
		want[service]["secrets"].(map[string]any)[name] = place
	}

	return want.text()
}

// withoutEmpty returns the settings of services without what only held secrets.
func withoutEmpty(text string) string { return services(text).text() }

// serviceValues are the settings of services, by service and key.
type serviceValues map[string]map[string]any

// services reads the settings of services. Of those that are none the next load says what is wrong.
func services(text string) serviceValues {
	v := serviceValues{}
	if json.Unmarshal([]byte(text), &v) != nil || v == nil {
		return serviceValues{}
	}
	return v
}

// text returns the settings as JSON, without what is empty.
func (v serviceValues) text() string {
	for _, of := range v {
		if in, ok := of["secrets"].(map[string]any); ok && len(in) == 0 {
			delete(of, "secrets")
		}
	}
	maps.DeleteFunc(v, func(_ string, of map[string]any) bool { return len(of) == 0 })

	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // it was JSON
	}
	return string(b)
}

// without returns the edits but for that of the key.
func (e edits) without(key string) edits {
	e.set = maps.Clone(e.set)
	delete(e.set, key)
	e.remove = slices.DeleteFunc(slices.Clone(e.remove), func(k string) bool { return k == key })
	return e
}

// of returns the config with the edits.
func (e edits) of(now, defaults program.Config) program.Config {
	out := program.Config{Plain: maps.Clone(now.Plain), Secret: now.Secret}
	maps.Copy(out.Plain, e.set)
	for _, key := range e.remove {
		delete(out.Plain, key)
		if v, ok := defaults.Plain[key]; ok {
			out.Plain[key] = v
		}
	}
	return out
}

// sameValue reports whether two values of a setting mean the same: the keys of a structure have no
// order.
func sameValue(a, b string) bool {
	if a == b {
		return true
	}

	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil &&
		reflect.DeepEqual(x, y)
}

// rolledBack returns the setting by which the stack has the images of an earlier release; nil if it
// is what its sources say.
func (t target) rolledBack() (*stacks.RollbackSettings, error) {
	text, ok := t.file.Config.Plain[rollbackKey]
	if !ok {
		return nil, nil
	}

	s, err := stacks.DecodeSettings(map[string]string{stacks.RollbackKey: text}, nil)
	return s.Rollback, err
}
