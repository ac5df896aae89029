package openai

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
)

// rules are the fields of a request that would change its answer, and which the models here do not
// know, each with the values that change nothing. Fields without a rule that nothing reads are
// ignored: clients send new ones.
type rules map[string][]string

// chatRules are those of /v1/chat/completions.
var chatRules = rules{
	"n":                  {"1"},
	"logprobs":           {"false"},
	"top_logprobs":       {"0"},
	"logit_bias":         {"{}"},
	"modalities":         {`["text"]`},
	"audio":              {},
	"functions":          {"[]"},
	"function_call":      {`"none"`, `"auto"`},
	"web_search_options": {},
}

// completionRules are those of /v1/completions.
var completionRules = rules{
	"n":          {"1"},
	"best_of":    {"1"},
	"echo":       {"false"},
	"logprobs":   {},
	"logit_bias": {"{}"},
}

// check returns a fault for the first field that is refused.
func (r rules) check(fields map[string]json.RawMessage) error {
	for _, name := range slices.Sorted(maps.Keys(r)) {
		value, ok := fields[name]
		if !ok || string(value) == "null" {
			continue
		}

		var given any
		if err := json.Unmarshal(value, &given); err != nil {
			return err
		}

		plain, err := json.Marshal(given)
		if err != nil {
			return err
		}
		if !slices.Contains(r[name], string(plain)) {
			return refused(name, "%s cannot have that value here: the models do not know it.", name)
		}
	}

	return nil
}

// stops are the texts that end an answer: one, or a list.
type stops []string

// UnmarshalJSON implements json.Unmarshaler.
func (s *stops) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*s = nil
		if one != "" {
			*s = stops{one}
		}
		return nil
	}

	var many []string
	if err := json.Unmarshal(b, &many); err != nil {
		return invalid("stop", "stop must be a text or a list of texts.")
	}

	*s = many
	return nil
}

// sampling are the fields that say how the answer is chosen, and how it is sent.
type sampling struct {
	Temperature      *float64 `json:"temperature"`
	TopP             *float64 `json:"top_p"`
	PresencePenalty  *float64 `json:"presence_penalty"`
	FrequencyPenalty *float64 `json:"frequency_penalty"`
	Seed             *int64   `json:"seed"`
	Stop             stops    `json:"stop"`
	MaxTokens        *int     `json:"max_tokens"`

	Stream        bool `json:"stream"`
	StreamOptions *struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
}

// usage reports whether a stream tells its use.
func (s *sampling) usage() bool { return s.StreamOptions != nil && s.StreamOptions.IncludeUsage }

// options returns ml's options. What is not set is as the model's own parameters have it.
func (s *sampling) options() map[string]any {
	out := map[string]any{}
	for name, v := range map[string]*float64{
		"temperature":       s.Temperature,
		"top_p":             s.TopP,
		"presence_penalty":  s.PresencePenalty,
		"frequency_penalty": s.FrequencyPenalty,
	} {
		if v != nil {
			out[name] = *v
		}
	}

	if s.Seed != nil {
		out["seed"] = int32(*s.Seed) // ml's has 32 bits
	}
	if len(s.Stop) > 0 {
		out["stop"] = []string(s.Stop)
	}
	if s.MaxTokens != nil {
		out["num_predict"] = min(*s.MaxTokens, mlapi.MaxTokens)
	}

	return out
}
