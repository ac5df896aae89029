package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/stacks"
)

func (a *App) readCommand(stack *string) *cobra.Command {
	var reason, file string
	c := &cobra.Command{
		Use:   "read PERSON --reason TEXT",
		Short: "Read what is stored of somebody, in an emergency",
		Long: `Prints all that is stored of a person, as JSON: conversations, sessions, keys without
their secrets. Before anything is read, it is recorded who runs this and why
(codexctl audit), and the person sees on the page Data when it was read, and why.
What cannot be recorded is not read.

The reason is kept for as long as the records: write the number of a case, and
nothing of what people wrote.
` + aPerson,
		Args: func(c *cobra.Command, list []string) error {
			if len(list) != 1 {
				return usageError{fmt.Errorf("%q: see `%s --help`", list, c.CommandPath())}
			}
			return nil
		},
		RunE: func(c *cobra.Command, list []string) error {
			if err := auditlog.CheckReason(reason); err != nil {
				return usageError{fmt.Errorf("--reason: %w", err)}
			}
			return a.read(c.Context(), *stack, list[0], reason, file)
		},
		DisableFlagsInUseLine: true,
	}

	c.Flags().StringVar(&reason, "reason", "", "why, which is recorded and shown to the person")
	c.Flags().StringVar(&file, "file", "", "write it to this new file, which only you can read")
	return c
}

// read prints what is stored of the person, or writes it to a file that must not be there.
func (a *App) read(ctx context.Context, name, who, reason, file string) error {
	t, stack, err := a.load(name)
	if err != nil {
		return err
	}

	if !stack.Audited() {
		return fmt.Errorf("nobody signs in to stack %s, so it is not known what is whose: set "+
			"%s:signIn, then `codexctl up %s`", t.file.Name, stacks.Project, t.name)
	}

	p, err := a.connect(ctx, t)
	if err != nil {
		return err
	}
	defer p.Close()

	g, err := healthyGate(ctx, t, stack, p)
	if err != nil {
		return err
	}

	return a.readTo(ctx, g, who, reason, file)
}

// readTo prints what the gate reads of the person, or writes it to the file.
func (a *App) readTo(ctx context.Context, g gate, who, reason, file string) error {
	if file == "" {
		return g.read(ctx, a.out, who, reason)
	}

	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}

	err = errors.Join(g.read(ctx, f, who, reason), f.Close())
	if err != nil {
		return errors.Join(err, os.Remove(file)) // half of it must not look like all of it
	}

	a.say("what is stored of %s is in %s", who, file)
	return nil
}

// wholeJSON passes on what is written to it, and knows whether it was one JSON value. A stream that
// was cut ends as one that is at its end does.
type wholeJSON struct {
	to   io.Writer
	pipe *io.PipeWriter
	read chan error
}

func newWholeJSON(to io.Writer) *wholeJSON {
	r, w := io.Pipe()
	j := &wholeJSON{to, w, make(chan error, 1)}
	go func() {
		err := oneValue(json.NewDecoder(r))
		_, _ = io.Copy(io.Discard, r) // else a writer would wait
		j.read <- err
	}()

	return j
}

func (j *wholeJSON) Write(b []byte) (int, error) {
	_, _ = j.pipe.Write(b)
	return j.to.Write(b)
}

// end reports what was not one JSON value.
func (j *wholeJSON) end() error {
	_ = j.pipe.Close()
	if err := <-j.read; err != nil {
		return fmt.Errorf("this is not all that is stored, run it again: %w", err)
	}
	return nil
}

// oneValue reads one value, a token at a time as it may be long, and returns an error if that is
// not all.
func oneValue(d *json.Decoder) error {
	for depth := 0; ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}

		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}

		if depth > 0 {
			continue
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return errors.New("something follows its end")
		}

		return nil
	}
}

// read runs `gate user read`, for whoever runs this command.
func (g gate) read(ctx context.Context, w io.Writer, who, reason string) error {
	whole := newWholeJSON(w)

	// Command lines are in the list of processes and in the engine's events.
	in, err := json.Marshal([]string{who, reason})
	if err == nil {
		err = g.stream(ctx, bytes.NewReader(in), whole, "user", "--at=", "--by="+operator(), "read",
			"-")
	}

	if cut := whole.end(); err == nil {
		err = cut
	}

	if err != nil && strings.Contains(err.Error(), "usage: gate user") {
		return fmt.Errorf("the gate knows no way to read what is stored of %s: `codexctl up` "+
			"brings one that does", who)
	}

	return err
}
