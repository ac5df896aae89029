package prompt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/ml/internal/vocabulary"
	"github.com/google/go-cmp/cmp"
	"github.com/ollama/ollama/api"
	builtin "github.com/ollama/ollama/model/parsers"
)

// source is an Ollama with one model, whose tokens are single letters.
type source struct {
	template, modelfile, system string

	mu    sync.Mutex
	shown int
	fail  error
	slow  chan struct{}
}

func (s *source) Show(ctx context.Context, name string) (*api.ShowResponse, error) {
	s.mu.Lock()
	s.shown++
	err, slow := s.fail, s.slow
	s.mu.Unlock()
	if slow != nil {
		select {
		case <-slow:
		case <-ctx.Done():
		}
	}

	if err != nil {
		return nil, err
	}

	r := &api.ShowResponse{
		Template:  s.template,
		System:    s.system,
		ModelInfo: map[string]any{"general.architecture": "llama", "llama.context_length": 1000.0},
		Modelfile: "FROM /a\n" + s.modelfile,
	}

	return r, nil
}

func (s *source) Vocabulary(context.Context, string) (vocabulary.Metadata, error) {
	return letters(), nil
}

// letters is a vocabulary with a token for each printable character and nothing longer, but for the
// control tokens.
func letters(control ...string) vocabulary.Metadata {
	m := vocabulary.Metadata{
		Model:  "llama",
		Tokens: []string{"<unk>", "▁", "<0x0A>"},
		Types:  []int32{2, 1, 6},
	}

	for c := '!'; c <= '~'; c++ {
		m.Tokens, m.Types = append(m.Tokens, string(c)), append(m.Types, 1)
	}

	for _, c := range control {
		m.Tokens, m.Types = append(m.Tokens, c), append(m.Types, 3)
	}

	m.Scores = make([]float32, len(m.Tokens))
	return m
}

const chat = `{{ if .System }}[S]{{ .System }}{{ end }}{{ range $i, $_ := .Messages }}` +
	`{{ $last := eq (len (slice $.Messages $i)) 1 }}` +
	`{{ if eq .Role "user" }}[U]{{ .Content }}{{ if $last }}[A]{{ end }}` +
	`{{ else if eq .Role "assistant" }}[A]{{ .Content }}{{ if not $last }}[E]{{ end }}{{ end }}` +
	`{{ end }}`

func known(t *testing.T, s *source) *Model {
	t.Helper()
	m, err := load(t.Context(), s, "m")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func conversation(texts ...string) []api.Message {
	var out []api.Message
	for i, text := range texts {
		out = append(out, api.Message{Role: []string{"user", "assistant"}[i%2], Content: text})
	}
	return out
}

func TestReserve(t *testing.T) {
	for _, tc := range []struct{ context, predict, want int }{
		{8192, 0, 2048}, {8192, 100, 100}, {8192, 6000, 4096}, {800, 0, 256}, {400, 0, 200},
		{1024, 0, 256}, {4096, 1, 1},
	} {
		if got := Reserve(tc.context, tc.predict); got != tc.want {
			t.Errorf("%+v: %d", tc, got)
		}
	}

	if Rest(1000, 300) != 700 || Rest(1000, 2000) != 32 {
		t.Error("Rest")
	}
}

func TestContext(t *testing.T) {
	for _, tc := range []struct {
		modelfile    string
		loaded, want int
	}{
		{"PARAMETER num_ctx 512\n", 0, 512}, {"PARAMETER num_ctx 512\n", 900, 512},
		{"PARAMETER num_ctx 8192\n", 0, 1000}, {"", 0, 1000}, {"", 700, 700},
	} {
		if got := known(t, &source{template: chat, modelfile: tc.modelfile}).Context(tc.loaded); got != tc.want {
			t.Errorf("%+v: %d", tc, got)
		}
	}

	if got := (*Model)(nil).Context(0); got != 4096 {
		t.Errorf("of an unknown model: %d", got)
	}
}

// TestFit: the oldest turns go, whole ones; the system's words and the last message stay.
func TestFit(t *testing.T) {
	m := known(t, &source{template: chat, system: strings.Repeat("s", 100)})
	ten := func(s string) string { return strings.Repeat(s, 10) }
	turns := conversation(ten("a"), ten("b"), ten("c"), ten("d"), ten("e"))
	unanswered := []api.Message{
		{Role: "user", Content: ten("a")},
		{Role: "user", Content: ten("b")},
		{Role: "assistant", Content: ten("c")},
		{Role: "user", Content: ten("d")},
	}

	inside := []api.Message{
		{Role: "system", Content: ten("y")},
		{Role: "user", Content: ten("a")},
		{Role: "system", Content: ten("z")},
		{Role: "assistant", Content: ten("b")},
		{Role: "user", Content: ten("c")},
	}

	for name, tc := range map[string]struct {
		messages []api.Message
		room     int
		want     string // the first letters of what is left
	}{
		"all":             {turns, 240, "abcde"},
		"one turn less":   {turns, 165, "cde"},
		"the last alone":  {turns, 150, "e"},
		"it goes on":      {turns[:4], 160, "cd"},
		"unanswered":      {unanswered, 160, "bcd"},
		"system's inside": {inside, 70, "yzc"},
		"system's stay":   {inside, 200, "yazbc"},
	} {
		kept, err := m.Fit(tc.messages, tc.room)
		var got strings.Builder
		for _, x := range kept {
			got.WriteString(x.Content[:1])
		}

		if err != nil || got.String() != tc.want {
			t.Errorf("%s: %q, %v", name, got.String(), err)
		}
		if prompt, err := m.render(kept, nil); err != nil || m.Count(prompt) > tc.room {
			t.Errorf("%s: %d tokens, %v", name, m.Count(prompt), err)
		}
	}

	var long *TooLongError
	_, err := m.Fit(conversation("a", "b", strings.Repeat("c", 500)), 300)
	if !errors.As(err, &long) || long.Tokens != 500 || long.Room > 200 || long.Room < 180 {
		t.Errorf("%v", err)
	}

	// Exactly as long as it says is room for.
	if _, err := m.Fit(conversation("a", "b", strings.Repeat("c", long.Room)), 300); err != nil {
		t.Errorf("%d tokens do not fit: %v", long.Room, err)
	}
}

// TestFitOfUnknown: nothing is known of the model, and still the history is cut and a long message
// refused.
func TestFitOfUnknown(t *testing.T) {
	var m *Model
	kept, err := m.Fit(conversation(strings.Repeat("a", 1000), "b", "c"), 300)
	if err != nil || len(kept) != 1 || kept[0].Content != "c" {
		t.Errorf("%v, %v", kept, err)
	}

	var long *TooLongError
	if _, err := m.Fit(conversation(strings.Repeat("a", 1000)), 300); !errors.As(err, &long) ||
		long.Tokens != 500 {
		t.Errorf("%v", err)
	}
}

// TestFitIsQuick: the refusal of the longest message comes while the backend can still take it back
// (0.3 s), a long history takes hardly longer.
func TestFitIsQuick(t *testing.T) {
	m := known(t, &source{template: chat})
	var history []string
	for i := range 261 {
		history = append(history, strings.Repeat(fmt.Sprintf("word%d ", i), 200))
	}

	for name, messages := range map[string][]api.Message{
		"one": conversation(strings.Repeat("a", 64<<10)), "many": conversation(history...),
	} {
		// Far more than it takes, for the race detector. A busy machine makes some tries late.
		const most, tries = 2 * time.Second, 5
		took, err := most+1, error(nil)
		for n := 0; n < tries && took > most; n++ {
			start := time.Now()
			_, err = m.Fit(messages, 6000)
			took = time.Since(start)
		}
		if took > most {
			t.Errorf("%s: %s, %v", name, took, err)
		}
	}
}

func TestLess(t *testing.T) {
	messages := append(
		[]api.Message{{Role: "system", Content: "s"}},
		conversation("a", "b", "c")...)
	less, ok := Less(messages)
	if !ok || len(less) != 2 || less[0].Role != "system" || less[1].Content != "c" {
		t.Errorf("%v, %v", less, ok)
	}
	if less, ok = Less(less); ok {
		t.Errorf("one more: %v", less)
	}
}

// TestContinues: only a prompt that ends in the text so far, as the assistant's, is gone on from.
func TestContinues(t *testing.T) {
	soFar := conversation("Hi", "Hello, I")
	for name, tc := range map[string]struct {
		template, modelfile string
		want                bool
	}{
		"as most do":         {chat, "", true},
		"ends the turn":      {`{{ range .Messages }}[{{ .Role }}]{{ .Content }}[E]{{ end }}`, "", false},
		"adds a line break":  {"{{ range .Messages }}[{{ .Role }}]{{ .Content }}\n{{ end }}", "", false},
		"opens another turn": {`{{ range .Messages }}[{{ .Role }}]{{ .Content }}{{ end }}[assistant]`, "", false},
		"ends by chance": {`{{ range .Messages }}{{ if eq .Role "user" }}{{ .Content }}{{ end }}{{ end }}Hello, I`,
			"", false},
		"without messages":      {`[U]{{ .Prompt }}[A]{{ .Response }}`, "", true},
		"without, and an end":   {`[U]{{ .Prompt }}[A]{{ .Response }}[E]`, "", true},
		"unknown renderer":      {chat, "RENDERER nobody\n", false},
		"renderer that does":    {"", "RENDERER qwen3-vl-instruct\nPARSER qwen3-vl-instruct\n", true},
		"renderer that doesn't": {"", "RENDERER glm-4.7\n", false},
		"parser that thinks":    {chat, "PARSER qwen3-thinking\n", false},
		"template that fails":   {`{{ range .Messages }}{{ .Content.X }}{{ end }}`, "", false},
	} {
		if got := known(t, &source{template: tc.template, modelfile: tc.modelfile}).Continues(soFar); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}

	if (*Model)(nil).Continues(soFar) {
		t.Error("an unknown model goes on")
	}
	if known(t, &source{template: chat}).Continues(conversation("Hi", "")) {
		t.Error("it goes on from nothing")
	}
}

// TestParsers: those of Ollama's parsers that are said to go on from a text pass on what follows,
// as it is.
func TestParsers(t *testing.T) {
	for _, name := range Parsers() {
		if name == "" {
			continue
		}

		p := builtin.ParserForName(name)
		if p == nil {
			t.Errorf("Ollama has no parser %s", name)
			continue
		}

		p.Init(
			nil,
			&api.Message{Role: "assistant", Content: "Hello, I"},
			&api.ThinkValue{Value: true},
		)

		var content, thinking string
		for _, text := range []string{" am", "\n\n", "  you"} {
			c, th, _, err := p.Add(text, false)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			content, thinking = content+c, thinking+th
		}

		c, _, _, _ := p.Add("", true)
		if content += c; content != " am\n\n  you" || thinking != "" {
			t.Errorf("%s: %q, thinking %q", name, content, thinking)
		}
	}
}

// TestCatalog: a model is asked for once, by whoever comes first; who cannot wait does without.
func TestCatalog(t *testing.T) {
	s := &source{template: chat, slow: make(chan struct{})}
	c := NewCatalog(s, slog.New(slog.DiscardHandler))
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if m := c.Get(short, "m", "d1"); m != nil {
		t.Error("it is there before it was shown")
	}

	close(s.slow)
	m := c.Get(t.Context(), "m", "d1")
	if m == nil || !m.Vocabulary.Exact() || c.Get(t.Context(), "m", "d1") != m || s.shown != 1 {
		t.Errorf("%+v, shown %d times", m, s.shown)
	}
	if other := c.Get(t.Context(), "m", "d2"); other == m || s.shown != 2 {
		t.Error("another digest is the same model")
	}

	s.mu.Lock()
	s.fail = errors.New("away")
	s.mu.Unlock()
	if m := c.Get(t.Context(), "n", "d"); m != nil {
		t.Error("a model that cannot be shown is known")
	}

	for i := range 5 {
		c.Get(t.Context(), "x", fmt.Sprint(i))
	}

	if len(c.entries) != maxModels {
		t.Errorf("%d are kept", len(c.entries))
	}
}

func TestRenders(t *testing.T) {
	m := known(
		t,
		&source{template: chat, system: "Be safe.", modelfile: "PARAMETER num_predict 77\n"},
	)

	for _, tc := range []struct {
		messages []api.Message
		want     string
	}{
		{conversation("Hi"), "[S]Be safe.[U]Hi[A]"},
		{conversation("a", "b", "c"), "[S]Be safe.[U]a[A]b[E][U]c[A]"},
		{append([]api.Message{{Role: "system", Content: "Other."}}, conversation("Hi")...), "[S]Other.[U]Hi[A]"},
	} {
		before := fmt.Sprint(tc.messages)
		got, err := m.render(tc.messages, nil)
		if d := cmp.Diff(tc.want, got); d != "" || err != nil || fmt.Sprint(tc.messages) != before {
			t.Errorf("%v, %s", err, d)
		}
	}

	if m.NumPredict != 77 {
		t.Errorf("num_predict %d", m.NumPredict)
	}
}
