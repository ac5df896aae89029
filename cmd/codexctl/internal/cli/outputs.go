package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"
)

func (a *App) outputsCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "outputs [STACK]",
		Short: "Print what the last up told: addresses, images, model",
		Args:  stackArg,
		RunE: func(c *cobra.Command, args []string) error {
			return a.outputs(c.Context(), stackOf(args), asJSON)
		},
	}

	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// hidden is printed instead of the value of a secret output.
const hidden = "[secret]"

func (a *App) outputs(ctx context.Context, name string, asJSON bool) error {
	t, s, err := a.everUp(ctx, name)
	if err != nil {
		return err
	}

	all, err := s.Outputs(ctx)
	if err != nil {
		return a.explainError(err, t.name)
	}

	values := map[string]any{}
	for k, v := range all {
		values[k] = v.Value
		if v.Secret {
			values[k] = hidden
		}
	}

	if asJSON {
		return writeJSON(a.out, values)
	}

	if len(values) == 0 {
		a.say("stack %s is not up: `codexctl up %s`", t.file.Name, name)
		return nil
	}

	var rows [][]string
	for _, k := range slices.Sorted(maps.Keys(values)) {
		rows = append(rows, flatten(k, values[k])...)
	}

	a.out.Table(rows, nil)
	return nil
}

// flatten returns a row for each value below v, with the path to it.
func flatten(path string, v any) [][]string {
	switch v := v.(type) {
	case map[string]any:
		var rows [][]string
		for _, k := range slices.Sorted(maps.Keys(v)) {
			rows = append(rows, flatten(path+"."+k, v[k])...)
		}
		return rows
	case []any:
		var rows [][]string
		for i, x := range v {
			p := path
			if len(v) > 1 {
				p = fmt.Sprintf("%s[%d]", path, i)
			}
			rows = append(rows, flatten(p, x)...)
		}

		return rows
	case string:
		return [][]string{{path, v}}
	}

	b, err := json.Marshal(v)
	if err != nil {
		return [][]string{{path, fmt.Sprint(v)}}
	}

	return [][]string{{path, string(b)}}
}
