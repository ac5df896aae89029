package deploy

import (
	"context"
	"encoding/json"

	"github.com/pulumi/pulumi/sdk/v3/go/auto"
)

// Edit changes the settings in a file as Pulumi does, which keeps comments and secrets as they are:
// it sets plain values by their full keys, text or JSON of a structure, and removes keys.
func (s *Session) Edit(
	ctx context.Context, file string, set map[string]string, remove []string,
) error {
	at := &auto.ConfigOptions{ConfigFile: file}
	if len(set) > 0 {
		text, err := configJSON(set)
		if err != nil {
			return err
		}
		if err := s.stack.SetAllConfigJson(ctx, text, at); err != nil {
			return explain(ctx, err)
		}
	}

	if len(remove) == 0 {
		return nil
	}
	return explain(ctx, s.stack.RemoveAllConfigWithOptions(ctx, remove, at))
}

// configJSON returns plain values as `pulumi config set-all --json` takes them.
func configJSON(set map[string]string) (string, error) {
	type value struct {
		Value  string          `json:"value"`
		Object json.RawMessage `json:"objectValue,omitempty"`
		Secret bool            `json:"secret"`
	}

	all := map[string]value{}
	for key, text := range set {
		v := value{Value: text}
		if structured(text) {
			v.Object = json.RawMessage(text)
		}
		all[key] = v
	}

	b, err := json.Marshal(all)
	return string(b), err
}

// structured reports whether a value is the JSON of a structure.
func structured(text string) bool {
	return len(text) > 0 && (text[0] == '{' || text[0] == '[') && json.Valid([]byte(text))
}
