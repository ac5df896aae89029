package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/auto"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/opthistory"

	"github.com/codexcontinue/codexcontinue/infra/program"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// Release is what an update made a stack, as far as its sources and settings say that.
type Release struct {
	// By is the name of who ran the command, as the machine there has it.
	By string `json:"by"`

	// Revision is the commit of the sources, Settings the SHA-256 in hex of the settings file.
	Revision string `json:"revision"`
	Settings string `json:"settings"`

	// Images are the references of the images by service, Model is the model with the digest of
	// what it is made of.
	Images map[string]string `json:"images"`
	Model  string            `json:"model"`

	// Data are the formats of what the services keep, by service (stacks.Service.DataFormat). Before
	// there was one, all were of the first.
	Data map[string]int `json:"data,omitempty"`

	// Rollback is the number of the earlier release whose images these are; 0 is that of none.
	Rollback int `json:"rollback,omitempty"`

	// NoWait reports whether `up` was not to wait for the model.
	NoWait bool `json:"noWait,omitempty"`

	// ID is another one for each update. By it the history has what Note says of it.
	ID string `json:"id,omitempty"`
}

// messagePrefix begins the message of an update of codexctl. The Release follows as JSON.
const messagePrefix = "codexctl: "

// message returns the message of an update, which the backend of the state keeps.
func (r Release) message() string {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // it has nothing that JSON has not
	}
	return messagePrefix + string(b)
}

// Results of an update. Pulumi knows of the resources alone: what `up` finds after it is added.
const (
	// Succeeded says that all was made, is healthy, and has its model.
	Succeeded = "succeeded"

	// Unhealthy and ModelNotReady say that all was made, and then a service did not come up, or the
	// model could not be used.
	Unhealthy     = "not healthy"
	ModelNotReady = "model not ready"

	// NotAwaited says that all was made, and that nobody waited for the model until it was ready, or
	// could see it.
	NotAwaited = "model not awaited"
)

// Update is an update of the stack that has ended, or goes on.
type Update struct {
	// Number counts the updates of the stack from 1. A backend on disk or in a bucket has no numbers
	// of its own.
	Number int `json:"number"`

	// Kind is what was done in a word of Pulumi's: update, destroy, refresh, ...
	Kind string `json:"kind"`

	// Result is one of the results above, or failed or in-progress.
	Result string    `json:"result"`
	Start  time.Time `json:"start"`

	// End is zero while it goes on.
	End time.Time `json:"end,omitzero"`

	// Changes counts the resources by what was done with them: create, update, same, ...
	Changes map[string]int `json:"changes"`

	// Release is nil for what was not made by `codexctl up`.
	Release *Release `json:"release"`

	// Config holds the settings that it was made with, by full key: text as it is, structures as
	// JSON. Secrets holds the keys of those that are secret, or have a secret in them; WithServices
	// tells these apart.
	Config  map[string]string `json:"-"`
	Secrets []string          `json:"-"`
}

// Made reports whether the update has made all resources, whatever came of them.
func (u Update) Made() bool {
	return slices.Contains([]string{Succeeded, Unhealthy, ModelNotReady, NotAwaited}, u.Result)
}

// Stands reports whether the update made the stack what it was to, as far as anybody has seen.
func (u Update) Stands() bool { return u.Result == Succeeded || u.Result == NotAwaited }

// notePrefix begins the name of the stack's tag with what Note says of a release.
const notePrefix = "codexctl:"

// Note has the history give the result for the release, of which all was made. An update that has
// ended is not written again by any backend, so it is a tag of the stack.
func (s *Session) Note(ctx context.Context, made Release, result string) error {
	return explain(ctx, s.stack.SetTag(ctx, notePrefix+made.ID, result))
}

// Unnote takes back what Note has said of the release.
func (s *Session) Unnote(ctx context.Context, made Release) error {
	return explain(ctx, s.stack.RemoveTag(ctx, notePrefix+made.ID))
}

// historyPage is how many updates the backend is asked for at once. Unasked, the CLI gives ten.
const historyPage = 100

// History returns all updates, the newest first.
func (s *Session) History(ctx context.Context) ([]Update, error) {
	var list []auto.UpdateSummary
	for page := 1; ; page++ {
		got, err := s.stack.History(ctx, historyPage, page, opthistory.ShowSecrets(false))
		if err != nil {
			return nil, explain(ctx, err)
		}
		list = append(list, got...)
		if len(got) < historyPage {
			break
		}
	}

	out := make([]Update, len(list))
	noted := false
	for i, u := range list {
		out[i] = update(u)
		out[i].Number = len(list) - i
		noted = noted || out[i].Release != nil && out[i].Release.ID != ""
	}

	if noted {
		tags, err := s.stack.ListTags(ctx)
		if err != nil {
			return nil, explain(ctx, err)
		}
		note(out, tags)
	}
	return out, nil
}

// Services is the key of the settings of services, the one that holds secrets beside what is none.
const Services = stacks.Project + ":services"

// WithServices returns the update of the history, the newest first, with the settings of services
// that it was made with, which History leaves out where secrets are in them. These are opened for
// that, and left out here: Secrets has their keys. It returns the update as it is where another
// passphrase or key than today's has encrypted them.
func (s *Session) WithServices(ctx context.Context, list []Update, u Update) (Update, error) {
	if !slices.Contains(u.Secrets, Services) {
		return u, nil
	}

	page := len(list) - u.Number + 1
	got, err := s.stack.History(ctx, 1, page, opthistory.ShowSecrets(true))
	if err != nil {
		return Update{}, explain(ctx, err)
	}
	if len(got) != 1 || !sameUpdate(update(got[0]), u) {
		return Update{}, errors.New("another update has begun meanwhile: run the command again")
	}

	rest, inside, err := program.CutOpened(got[0].Config[Services].Value)
	if err != nil { // Pulumi has words in the place of what it cannot decrypt
		return u, nil
	}

	u.Config = maps.Clone(u.Config)
	u.Config[Services] = rest
	u.Secrets = slices.DeleteFunc(slices.Clone(u.Secrets), func(k string) bool { return k == Services })
	u.Secrets = append(u.Secrets, inside...)
	return u, nil
}

// sameUpdate reports whether both are the same update of a stack, whatever was added to one of them
// since it was read.
func sameUpdate(a, b Update) bool {
	id := func(u Update) string {
		if u.Release == nil {
			return ""
		}
		return u.Release.ID
	}
	return a.Start.Equal(b.Start) && id(a) == id(b)
}

// note gives the updates of which all was made the results that the stack's tags have.
func note(list []Update, tags map[string]string) {
	for i, u := range list {
		if u.Release == nil || u.Release.ID == "" || !u.Made() {
			continue
		}
		noted := Update{Result: tags[notePrefix+u.Release.ID]}
		if noted.Made() {
			list[i].Result = noted.Result
		}
	}
}

// update reads what the backend knows of an update.
func update(u auto.UpdateSummary) Update {
	out := Update{Kind: u.Kind, Result: u.Result}
	// Pulumi writes these times itself: one that is not read is left out.
	out.Start, _ = time.Parse(time.RFC3339, u.StartTime)
	if u.EndTime != nil {
		out.End, _ = time.Parse(time.RFC3339, *u.EndTime)
	}
	if u.ResourceChanges != nil {
		out.Changes = *u.ResourceChanges
	}

	out.Config = map[string]string{}
	for key, v := range u.Config {
		if v.Secret {
			out.Secrets = append(out.Secrets, key)
			continue
		}
		out.Config[key] = v.Value
	}
	slices.Sort(out.Secrets)

	message := u.Message
	if quoted, err := strconv.Unquote(message); err == nil {
		message = quoted // the Automation API hands it to the CLI in Go's quotes
	}

	text, ours := strings.CutPrefix(message, messagePrefix)
	var r Release
	if ours && json.Unmarshal([]byte(text), &r) == nil {
		out.Release = &r
		if r.NoWait && out.Result == Succeeded {
			out.Result = NotAwaited
		}
	}

	return out
}
