package stacks_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/codexcontinue/codexcontinue/services/backend/backendenv"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/knowledge/knowledgeenv"
	"github.com/codexcontinue/codexcontinue/services/ml/mlenv"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// withKnowledge returns the settings with documents for everybody, and others for two groups.
func withKnowledge(s stacks.Settings) stacks.Settings {
	s.SignIn = &stacks.SignInSettings{Accounts: true}
	s.Knowledge = &stacks.KnowledgeSettings{
		Collections: map[string][]string{"handbook": nil, "wards": {"nurses", "a team, two"}},
		Embedding:   "nomic-embed-text",
	}
	return s
}

// TestKnowledge holds that each shipped stack has the service if its settings name collections, as
// one writer of its volume, and that the others are told of it.
func TestKnowledge(t *testing.T) {
	for _, name := range stacks.Overlays() {
		settings := withPassword()
		if name == "dev" {
			settings.Secrets = nil
		}

		if plain := load(t, name, settings); plain.Service(stacks.Knowledge) != nil {
			t.Errorf("%s has the service without being asked to", name)
		}

		s := load(t, name, withKnowledge(settings))
		if err := s.Validate(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}

		svc := s.Service(stacks.Knowledge)
		volume, _ := s.Volume(stacks.KnowledgeData)
		if !volume.SingleWriter || svc.Replicas != 1 || svc.MaxReplicas() != 1 {
			t.Errorf("%s: %d replicas write to %+v", name, svc.Replicas, volume)
		}
		if own := s.Service(stacks.Backend); !slices.Equal(svc.Networks, own.Networks) {
			t.Errorf("%s: it is on %v", name, svc.Networks)
		}
		if _, out := s.WayOut(*svc); out && name == "healthcare" || len(svc.Outside) > 0 {
			t.Errorf("%s: it has a way out", name)
		}

		c := svc.Contract.(*knowledgeenv.Config)
		want := map[string][]string{"handbook": nil, "wards": {"nurses", "a team, two"}}
		if d := cmp.Diff(want, map[string][]string(c.Collections)); d != "" {
			t.Errorf("%s: collections (-want +got):\n%s", name, d)
		}
		if (c.RedisPasswordFile == "") != (name == "dev") || !c.Audit {
			t.Errorf("%s: it has %+v, %+v", name, c.RequiredRedis, c.Auditing)
		}

		at := "http://knowledge:7000"
		if name == "healthcare" {
			at = "https://knowledge:7000"
			if d := cmp.Diff([]string{"gate", "backend"}, c.TLSCallers); d != "" {
				t.Errorf("callers (-want +got):\n%s", d)
			}
		}

		gate := s.Service(stacks.Gate).Contract.(*gateenv.Config)
		backend := s.Service(stacks.Backend).Contract.(*backendenv.Config)
		if gate.KnowledgeURL != at || backend.KnowledgeURL != at {
			t.Errorf("%s: the gate asks %s, the backend %s", name, gate.KnowledgeURL,
				backend.KnowledgeURL)
		}
		if got := gate.Groups(); !slices.Equal(got, []string{"a team, two", "nurses"}) {
			t.Errorf("%s: the gate keeps the groups %q", name, got)
		}

		ml := s.Service(stacks.ML).Contract.(*mlenv.Config)
		if ml.EmbeddingModel != "nomic-embed-text" || c.EmbeddingModel != ml.EmbeddingModel {
			t.Errorf("%s: ml embeds by %q, knowledge by %q", name, ml.EmbeddingModel,
				c.EmbeddingModel)
		}

		for caller, callees := range map[string][]string{
			stacks.Gate: {stacks.Knowledge}, stacks.Backend: {stacks.Knowledge},
			stacks.Knowledge: {stacks.ML, stacks.Redis},
		} {
			for _, callee := range callees {
				if !slices.Contains(s.Service(caller).Calls, callee) {
					t.Errorf("%s: %s may not call %s", name, caller, callee)
				}
			}
			if slices.Contains(s.Service(caller).DependsOn, stacks.Knowledge) {
				t.Errorf("%s: %s waits for knowledge", name, caller)
			}
		}
	}
}

// TestKnowledgeEnvironment holds that the services read what the stack renders.
func TestKnowledgeEnvironment(t *testing.T) {
	s := load(t, "dev", withKnowledge(stacks.Settings{Target: stacks.Docker}))
	vars, err := contract.Environ(s.Service(stacks.Knowledge).Contract)
	if err != nil {
		t.Fatal(err)
	}
	want := `COLLECTIONS={"handbook":null,"wards":["nurses","a team, two"]}`
	if !slices.Contains(vars, want) {
		t.Errorf("the environment lacks %s: %q", want, vars)
	}

	c, err := contract.Parse[knowledgeenv.Config](vars)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(s.Service(stacks.Knowledge).Contract, contract.Environment(&c)); d != "" {
		t.Errorf("-rendered +read:\n%s", d)
	}

	if vars, err = contract.Environ(s.Service(stacks.Gate).Contract); err != nil {
		t.Fatal(err)
	}
	gate, err := contract.Parse[gateenv.Config](vars)
	if err != nil {
		t.Fatal(err)
	}
	if got := gate.Groups(); !slices.Equal(got, []string{"a team, two", "nurses"}) {
		t.Errorf("the gate reads the groups %q", got)
	}
}

// TestKnowledgeElsewhere holds that knowledge signs in to a Redis of somebody else like the others.
func TestKnowledgeElsewhere(t *testing.T) {
	v := withKnowledge(withPassword())
	v.Redis = &stacks.RedisSettings{URL: "rediss://chat@redis.example.com:6379/0"}
	s := load(t, "prod", v)
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}

	svc := s.Service(stacks.Knowledge)
	c := svc.Contract.(*knowledgeenv.Config)
	if c.RedisURL != v.Redis.URL || len(svc.Outside) != 1 || len(svc.DependsOn) != 0 {
		t.Errorf("it uses %s, reaches %v and waits for %v", c.RedisURL, svc.Outside, svc.DependsOn)
	}
}

func TestKnowledgeSettings(t *testing.T) {
	v, err := stacks.DecodeSettings(map[string]string{
		"knowledge": `{"collections": {"handbook": "everybody", "wards": ["nurses", "doctors"]},
			"embedding": "registry.example.com/team/bge-m3:567m"}`,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := &stacks.KnowledgeSettings{
		Collections: map[string][]string{"handbook": nil, "wards": {"nurses", "doctors"}},
		Embedding:   "registry.example.com/team/bge-m3:567m",
	}
	if d := cmp.Diff(want, v.Knowledge); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}

	if v, err = stacks.DecodeSettings(map[string]string{"knowledge": "{}"}, nil); err != nil ||
		v.Knowledge != nil {
		t.Errorf("of the project's default: %+v, %v", v.Knowledge, err)
	}
}

func TestKnowledgeRefused(t *testing.T) {
	var many []string
	for i := range 51 {
		many = append(many, fmt.Sprintf(`"c%d": "everybody"`, i))
	}

	const noName = "is no name of at most 40 characters: use lower-case letters"
	for text, want := range map[string]string{
		`[1]`:                  "must be an object",
		`{"embedding": "m"}`:   "collections: is not set: write it like {handbook: everybody, ",
		`{"collections": {}}`:  "collections: is not set",
		`{"collections": [1]}`: "collections: must be an object of keys and values",
		`{"colections": {}}`:   "colections: unknown key: did you mean collections?",

		`{"collections": {"A": "everybody"}}`:    "collections.A: " + noName,
		`{"collections": {"": "everybody"}}`:     "collections.: " + noName,
		`{"collections": {"../x": "everybody"}}`: "collections.../x: " + noName,
		`{"collections": {"` + strings.Repeat("a", 41) + `": "everybody"}}`: "collections." +
			strings.Repeat("a", 41) + ": " + noName,

		`{"collections": {"a": "team"}}`: `collections.a: must be a list of groups, or everybody, ` +
			`got "team"`,
		`{"collections": {"a": null}}`:    `collections.a: must be a list of groups`,
		`{"collections": {"a": []}}`:      "collections.a: must be a list",
		`{"collections": {"a": [""]}}`:    "collections.a.0: is empty",
		`{"collections": {"a": [["b"]]}}`: "collections.a.0: must be text",

		`{"collections": {` + strings.Join(many, ",") + `}}`: "collections: names 51: leave 50 at most",

		`{"collections": {"a": "everybody"}, "embedding": ""}`: "embedding: is empty",
		`{"collections": {"a": "everybody"}, "embedding": "a b"}`: `embedding: "a b" is no name of a ` +
			`model, such as`,
	} {
		_, err := stacks.DecodeSettings(map[string]string{"knowledge": text}, nil)
		if err == nil || !strings.Contains(err.Error(), "codexcontinue:knowledge") ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}

	for name, tt := range map[string]struct {
		change func(*stacks.Settings)
		want   string
	}{
		"nobody signs in": {func(s *stacks.Settings) { s.SignIn = nil },
			"codexcontinue:knowledge.collections.wards: nobody signs in to this stack"},
		"its own model": {func(s *stacks.Settings) { s.Knowledge.Embedding = "codexcontinue:latest" },
			"codexcontinue:knowledge.embedding: codexcontinue:latest is the stack's own model"},
	} {
		v := withKnowledge(stacks.Settings{Target: stacks.Docker})
		tt.change(&v)
		_, err := stacks.Load("dev", v, checkout())
		if err == nil || !strings.Contains(err.Error(), tt.want) ||
			strings.Contains(err.Error(), "handbook") {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}

	v := withKnowledge(withPassword())
	two := 2
	v.Services = map[string]stacks.ServiceSettings{stacks.Knowledge: {Replicas: &two}}
	s := load(t, "prod", v)
	if err := s.Validate(); err == nil || !strings.Contains(err.Error(),
		"services.knowledge.replicas: 2 containers cannot write to the volume knowledge-data") {
		t.Errorf("two replicas: %v", err)
	}
}
