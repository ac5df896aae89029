// Package deploy runs the project's Pulumi program through the Automation API, on the same project,
// config and state as a plain `pulumi up`.
package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/auto"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/events"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optdestroy"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optpreview"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optup"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/progress"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/pulumicli"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// ErrNoStack is returned when the stack has never been up, or is not in this backend.
var ErrNoStack = errors.New("it is not in the state")

// Options are the options of Open.
type Options struct {
	// Root is the project's folder, Stack the stack's name in Pulumi.
	Root, Stack string
	Command     auto.PulumiCommand

	// Env are variables for the CLI in addition to its environment.
	Env map[string]string

	// Program provisions the stack.
	Program pulumi.RunFunc

	// Create adds the stack to the state if it is not there.
	Create bool
}

// Session is an open stack.
type Session struct {
	stack auto.Stack

	// replace are the URNs of what the next update makes anew.
	replace []string
}

// Open selects the stack in the state. Without Create it returns ErrNoStack if
// the stack is not there.
func Open(ctx context.Context, o Options) (*Session, error) {
	open := auto.SelectStackInlineSource
	if o.Create {
		open = auto.UpsertStackInlineSource
	}

	s, err := open(ctx, o.Stack, stacks.Project, o.Program,
		auto.WorkDir(o.Root), auto.Pulumi(o.Command), auto.EnvVars(o.Env))
	switch {
	case auto.IsSelectStack404Error(errors.Unwrap(err)) || auto.IsSelectStack404Error(err) ||
		err != nil && noStack.MatchString(err.Error()):
		return nil, fmt.Errorf("stack %q: %w", o.Stack, ErrNoStack)
	case err != nil:
		return nil, explain(ctx, err)
	}

	return &Session{stack: s}, nil
}

var noStack = regexp.MustCompile(`no stack named '[^']*' found`)

// show calls run while the display shows its events. The Automation API closes the channel after
// the last event, but not if the CLI did not get as far as sending one.
func show(
	d *progress.Display, run func(ch chan<- events.EngineEvent) error,
) (progress.Result, error) {
	ch, stop := make(chan events.EngineEvent), make(chan struct{})
	done := make(chan progress.Result)
	go func() { done <- d.Run(ch, stop) }()
	err := run(ch)
	close(stop)
	return <-done, err
}

// Up provisions what the program describes, which the history has as the release. With refresh it
// first compares the state with what really runs.
func (s *Session) Up(
	ctx context.Context, d *progress.Display, made Release, refresh bool,
) (progress.Result, error) {
	r, err := show(d, func(ch chan<- events.EngineEvent) error {
		opts := []optup.Option{
			optup.EventStreams(ch), optup.SuppressOutputs(), optup.SuppressProgress(),
			optup.UserAgent("codexctl"), optup.Message(made.message()),
		}
		if refresh {
			opts = append(opts, optup.Refresh())
		}
		if len(s.replace) > 0 {
			opts = append(opts, optup.Replace(s.replace))
		}

		_, err := s.stack.Up(ctx, opts...)
		return err
	})

	return r, explain(ctx, err)
}

// Replace has the next Up make the resource anew, although nothing in it changed.
func (s *Session) Replace(r Resource) { s.replace = append(s.replace, r.URN) }

// Preview returns what Up would do.
func (s *Session) Preview(ctx context.Context, d *progress.Display) (progress.Result, error) {
	return s.PreviewOf(ctx, d, "")
}

// PreviewOf returns what Up would do with the settings in the file, which the program reads as well.
// With an empty one they are the stack's own.
func (s *Session) PreviewOf(
	ctx context.Context, d *progress.Display, file string,
) (progress.Result, error) {
	r, err := show(d, func(ch chan<- events.EngineEvent) error {
		opts := []optpreview.Option{
			optpreview.EventStreams(ch), optpreview.SuppressOutputs(),
			optpreview.SuppressProgress(), optpreview.UserAgent("codexctl"),
		}
		if file != "" {
			opts = append(opts, optpreview.ConfigFile(file))
		}

		_, err := s.stack.Preview(ctx, opts...)
		return err
	})
	return r, explain(ctx, err)
}

// Destroy removes everything but what the program retains: the volumes.
func (s *Session) Destroy(ctx context.Context, d *progress.Display) (progress.Result, error) {
	r, err := show(d, func(ch chan<- events.EngineEvent) error {
		_, err := s.stack.Destroy(ctx, optdestroy.EventStreams(ch), optdestroy.SuppressOutputs(),
			optdestroy.SuppressProgress(), optdestroy.UserAgent("codexctl"))
		return err
	})
	return r, explain(ctx, err)
}

// ForgetPending removes from the state what a killed update was about to create, so that later
// updates do not warn of it. The caller has removed what came of it.
func (s *Session) ForgetPending(ctx context.Context) error {
	d, err := s.stack.Export(ctx)
	if err != nil {
		return explain(ctx, err)
	}

	var content map[string]json.RawMessage
	if err := json.Unmarshal(d.Deployment, &content); err != nil {
		return fmt.Errorf("state: %w", err)
	}

	var pending []struct {
		Type string `json:"type"`
	}
	if raw, ok := content["pending_operations"]; !ok || json.Unmarshal(raw, &pending) != nil ||
		len(pending) == 0 {
		return nil
	}

	for _, p := range pending {
		if p.Type != "creating" {
			return nil // others need a refresh, which asks the engine
		}
	}

	delete(content, "pending_operations")
	if d.Deployment, err = json.Marshal(content); err != nil {
		return fmt.Errorf("state: %w", err)
	}

	return explain(ctx, s.stack.Import(ctx, d))
}

// Cancel removes the lock that an update has on the state, or that a killed one has left.
func (s *Session) Cancel(ctx context.Context) error {
	// A service that keeps states refuses where nothing goes on, and has a page for each. A folder
	// or bucket does not know, and has none.
	info, err := s.stack.Info(ctx)
	if err == nil && strings.HasPrefix(info.URL, "http") && !info.UpdateInProgress {
		return nil
	}
	if err == nil {
		err = s.stack.Cancel(ctx)
	}
	return explain(ctx, err)
}

// Resource is a resource in the state.
type Resource struct {
	URN string
	// Type is its type in Pulumi, such as kubernetes:apps/v1:Deployment; ID the provider's.
	Type, ID string
	// Image is the reference of an image that is built; empty for other resources.
	Image string
	// Generation is the number by which a cluster counts the versions of its specification; 0 for
	// resources without one.
	Generation int64
}

// Resources returns the resources in the state that exist, as far as the state knows.
func (s *Session) Resources(ctx context.Context) ([]Resource, error) {
	d, err := s.stack.Export(ctx)
	if err != nil {
		return nil, explain(ctx, err)
	}

	var content struct {
		Resources []struct {
			URN, Type, ID string
			Inputs        struct{ ImageName json.RawMessage }
			Outputs       struct{ Metadata json.RawMessage }
		}
	}

	if err := json.Unmarshal(d.Deployment, &content); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}

	var out []Resource
	for _, r := range content.Resources {
		if r.ID == "" {
			continue
		}
		var metadata struct{ Generation int64 }
		var image string
		// Other resources have no such metadata and no such name, or secret ones.
		_ = json.Unmarshal(r.Outputs.Metadata, &metadata)
		_ = json.Unmarshal(r.Inputs.ImageName, &image)
		out = append(out, Resource{
			URN: r.URN, Type: r.Type, ID: r.ID, Image: image, Generation: metadata.Generation,
		})
	}

	return out, nil
}

// Set writes a plain value into the stack's settings file, at a path such as
// codexcontinue:services.backend.replicas.
func (s *Session) Set(ctx context.Context, path, value string) error {
	return explain(ctx,
		s.stack.SetConfigWithOptions(ctx, path, auto.ConfigValue{Value: value},
			&auto.ConfigOptions{Path: true}))
}

// SetSecret writes a secret, encrypted, into the stack's settings file. The value is no argument of a
// program.
func (s *Session) SetSecret(ctx context.Context, key, value string) error {
	w := s.stack.Workspace()
	var env []string
	for name, v := range w.GetEnvVars() {
		env = append(env, name+"="+v)
	}

	_, errOut, code, err := w.PulumiCommand().Run(ctx, w.WorkDir(), strings.NewReader(value), nil,
		nil, env, "config", "set", "--secret", "--stack", s.stack.Name(), key)
	if err == nil && code != 0 {
		err = fmt.Errorf("pulumi config set: exit code %d", code)
	}
	if err != nil {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(errOut))
	}

	return explain(ctx, err)
}

// Export returns what the state has of the stack, as `pulumi stack export` prints it: secrets are
// encrypted, where the Automation API's own Export decrypts them.
func (s *Session) Export(ctx context.Context) (json.RawMessage, error) {
	w := s.stack.Workspace()
	var env []string
	for name, v := range w.GetEnvVars() {
		env = append(env, name+"="+v)
	}

	out, errOut, code, err := w.PulumiCommand().Run(ctx, w.WorkDir(), nil, nil, nil, env, "stack",
		"export", "--stack", s.stack.Name())
	if err == nil && code != 0 {
		err = fmt.Errorf("pulumi stack export: exit code %d", code)
	}
	if err == nil && !json.Valid([]byte(out)) {
		err = errors.New("pulumi stack export: prints something else than JSON")
	}
	if err != nil {
		return nil, explain(ctx, fmt.Errorf("%w: %s", err, strings.TrimSpace(errOut)))
	}
	return json.RawMessage(out), nil
}

// Secret returns the value of a secret of the stack's settings file.
func (s *Session) Secret(ctx context.Context, key string) (string, error) {
	v, err := s.stack.GetConfig(ctx, key)
	return v.Value, explain(ctx, err)
}

// Outputs returns the outputs of the last Up.
func (s *Session) Outputs(ctx context.Context) (auto.OutputMap, error) {
	m, err := s.stack.Outputs(ctx)
	return m, explain(ctx, err)
}

// Error is returned when a Pulumi operation failed.
type Error struct {
	// Message is what a person should know, without the CLI's whole output.
	Message string

	// Locked reports whether another update holds the state, or a killed one left its lock.
	Locked bool

	// Interrupted reports whether the person stopped it.
	Interrupted bool
	cause       error
}

func (e *Error) Error() string { return e.Message }
func (e *Error) Unwrap() error { return e.cause }

// explain returns an *Error with the lines that matter of the Automation API's error, which holds
// all of stdout and stderr.
func explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(context.Cause(ctx), pulumicli.ErrHopeless) {
		return &Error{Message: pulumicli.ErrHopeless.Error(), cause: pulumicli.ErrHopeless}
	}
	if ctx.Err() != nil {
		return &Error{Message: "interrupted", Interrupted: true, cause: ctx.Err()}
	}

	text := err.Error()
	if locked := lockLine.FindString(text); locked != "" || auto.IsConcurrentUpdateError(err) {
		return &Error{Locked: true, cause: err, Message: strings.TrimSpace(
			"state: another update of this stack is going on, or one was killed and left its " +
				"lock\n  " + lockOwner.FindString(text))}
	}

	if strings.Contains(text, "incorrect passphrase") {
		return &Error{
			cause: err,
			Message: "secrets: the passphrase is not the one that the stack's config was " +
				"encrypted with: " +
				"set PULUMI_CONFIG_PASSPHRASE_FILE to the file that holds the right one",
		}
	}

	var kept []string
	for line := range strings.Lines(text) {
		if m := errorLine.FindStringSubmatch(line); m != nil {
			kept = append(kept, m[1])
		}
	}

	if len(kept) == 0 {
		first, _, _ := strings.Cut(text, "\ncode: ")
		kept = []string{first}
	}

	return &Error{Message: strings.Join(kept, "\n"), cause: err}
}

var (
	lockLine  = regexp.MustCompile(`the stack is currently locked by`)
	lockOwner = regexp.MustCompile(`(?m)^\s*\S*: created by .*$`)
	errorLine = regexp.MustCompile(`^\s*error: (.*)$`)
)
