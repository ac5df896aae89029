// Command vulncheck runs govulncheck and checks what it finds:
//
//	vulncheck GOVULNCHECK [PACKAGES...]
//
// It exits with 0 if the code reaches no vulnerability but those of the list accepted. It exits
// with 1 if it reaches another one, if it does not reach one of the list, and on any other error.
// If the database does not answer it prints a line with SKIPPED and exits with 0, or with 1 if
// CODEXCONTINUE_REQUIRE_PEERS names vulndb.
//
// GOVULNDB is the URL of the database (default https://vuln.go.dev). It may be a
// copy of it: file:///path.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// vulnerability is one that the code reaches.
type vulnerability struct {
	id, summary string

	// module contains it, in the version that is used. fixed is the version that fixes it, or "".
	module, version, fixed string

	// call is the function of this repository that leads to it, and its position.
	call string
}

func run(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	if len(args) == 0 {
		return errors.New("usage: vulncheck GOVULNCHECK [PACKAGES...]")
	}

	packages := args[1:]
	if len(packages) == 0 {
		packages = []string{"./..."}
	}

	db := cmp.Or(getenv("GOVULNDB"), "https://vuln.go.dev")
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, args[0],
		append([]string{"-db", db, "-format", "json"}, packages...)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		// Only a request without any answer is a skip. An answer such as 404
		// means a wrong GOVULNDB.
		_, reason, unanswered := strings.Cut(errs.String(), `fetching vulnerabilities: Get "`)
		if !unanswered {
			return fmt.Errorf("%s: %w\n%s", args[0], err, strings.TrimSpace(errs.String()))
		}

		reason, _, _ = strings.Cut(reason, "\n")
		reason = reason[strings.LastIndex(reason, ": ")+1:]
		fmt.Fprintf(stdout,
			"govulncheck: SKIPPED, nothing was checked: no answer from the database %s:%s\n", db,
			reason)
		if slices.Contains(strings.Split(getenv("CODEXCONTINUE_REQUIRE_PEERS"), ","), "vulndb") {
			return errors.New("CODEXCONTINUE_REQUIRE_PEERS wants the database")
		}

		return nil
	}

	found, err := read(&out)
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}

	return judge(found, accepted, stdout)
}

// read returns the vulnerabilities in govulncheck's messages that the code reaches, sorted by id.
// Those in a part of a module or package that it does not use are left out. See
// golang.org/x/vuln/internal/govulncheck for the messages.
func read(r io.Reader) ([]vulnerability, error) {
	type frame struct {
		Module, Version, Function string
		Position                  *struct {
			Filename string
			Line     int
		}
	}

	var message struct {
		OSV     *struct{ ID, Summary string }
		Finding *struct {
			OSV          string
			FixedVersion string `json:"fixed_version"`
			Trace        []frame
		}
	}

	summaries, reached := map[string]string{}, map[string]vulnerability{}
	for d := json.NewDecoder(r); ; {
		message.OSV, message.Finding = nil, nil
		if err := d.Decode(&message); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}

		if o := message.OSV; o != nil {
			summaries[o.ID] = o.Summary
		}

		f := message.Finding
		if f == nil || len(f.Trace) == 0 || f.Trace[0].Function == "" {
			continue
		}
		if _, again := reached[f.OSV]; again {
			continue // another way to it
		}

		v := vulnerability{
			id:      f.OSV,
			module:  f.Trace[0].Module,
			version: f.Trace[0].Version,
			fixed:   f.FixedVersion,
		}

		if ours := f.Trace[len(f.Trace)-1]; ours.Position != nil {
			v.call = fmt.Sprintf("%s:%d: %s",
				ours.Position.Filename, ours.Position.Line, ours.Function)
		}

		reached[f.OSV] = v
	}

	var out []vulnerability
	for _, id := range slices.Sorted(maps.Keys(reached)) {
		v := reached[id]
		v.summary = summaries[id]
		out = append(out, v)
	}

	return out, nil
}

// judge returns an error for each vulnerability that is not accepted, and for each that
// is but was not found.
func judge(found []vulnerability, accepted map[string]string, stdout io.Writer) error {
	var errs []error
	known := maps.Clone(accepted)
	for _, v := range found {
		if _, ok := known[v.id]; ok {
			delete(known, v.id)
			continue
		}

		todo := "there is no fixed version: leave the call out, or accept it in " +
			"test/vulncheck/accepted.go with the reason why it does no harm"
		if v.fixed != "" {
			todo = fmt.Sprintf("go get %s@%s", v.module, v.fixed)
		}

		errs = append(errs,
			fmt.Errorf("%s: %s\n  %s@%s, reached from %s\n  what to do: %s", v.id, v.summary,
				v.module, v.version, v.call, todo))
	}

	for _, id := range slices.Sorted(maps.Keys(known)) {
		errs = append(errs,
			fmt.Errorf("%s: is reached no more: take it out of test/vulncheck/accepted.go", id))
	}

	if err := errors.Join(errs...); err != nil {
		return err
	}

	fmt.Fprintf(stdout,
		"govulncheck: no vulnerability that the code reaches, but %d that do no harm here "+
			"(test/vulncheck/accepted.go)\n",
		len(found))

	return nil
}
