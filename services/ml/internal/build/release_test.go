package build

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/modelfiles"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollamatest"
	"github.com/codexcontinue/codexcontinue/test/tinymodel"
	"github.com/google/go-cmp/cmp"
	"github.com/ollama/ollama/api"
)

// Evals that a tiny model passes which says the first or the second of its answers.
const (
	firstAnswer  = "cases: [{name: greets, prompt: Hi, must: [^hello]}]\n"
	secondAnswer = "cases:\n- {name: greets, prompt: Hi, must: [^hello], safety: true}\n" +
		"- {name: is the second, prompt: Hi, must: [second version], mustNot: [tiny]}\n"
)

// judged are the options of a plan that saw a folder with a tiny model and these evals.
func judged(t *testing.T, name, system, end, evals string) Options {
	t.Helper()
	dir := folder(t, map[string]string{
		"Modelfile":  modelfile("tiny.gguf", end) + "SYSTEM " + system + "\n",
		"tiny.gguf":  "",
		"evals.yaml": evals,
	})

	o := options(t, name, dir, "")
	e, err := modelfiles.LoadEvals(os.DirFS(dir), "Modelfile")
	if err != nil {
		t.Fatal(err)
	}

	o.Evals = e.Digest
	return o
}

func releases(t *testing.T, b *Builder) []mlapi.Release {
	t.Helper()
	all, err := b.Releases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// testEvals: a version that fails never serves, whatever is done again; one that passes does, and
// is asked once.
func testEvals(t *testing.T, s *ollamatest.Server, name string) {
	good := judged(t, name, "One.", "", firstAnswer)
	g := newGate(t, s.URL)
	for range 2 { // the second start finds the verdict
		b, _ := builder(g.URL, good)
		if err := b.Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := &mlapi.EvalsSummary{Passed: 1, Total: 1}
		st := b.State()
		st.Evals.At = time.Time{}
		if d := cmp.Diff(want, st.Evals); d != "" || st.Serves != good.Digest[:12] ||
			st.RolledBack {
			t.Errorf("%+v, evals (-want +got):\n%s", st, d)
		}
	}
	if g.count("chat") != 1 || g.count("generate") != 1 {
		t.Errorf("calls: %v", g.calls)
	}

	before := models(t, s, name)["latest"]
	bad := judged(t, name, "Two.", tinymodel.AltToken, firstAnswer)
	for range 2 {
		b, seen := builder(g.URL, bad)
		err := b.Apply(t.Context())
		failed, ok := errors.AsType[*EvalsError](err)
		if !ok || len(failed.Report.Failures) != 1 ||
			failed.Report.Failures[0].Answer != tinymodel.AltAnswer {
			t.Fatalf("%v", err)
		}

		for _, want := range []string{
			"the version " + bad.Digest[:12] + " does not pass its evals, 1 of 1 failed",
			`"greets" must match "^hello"`, "The version " + good.Digest[:12] + " serves as before",
		} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v does not say %q", err, want)
			}
		}
		if strings.Contains(err.Error(), tinymodel.AltAnswer) {
			t.Error("anybody who may see the state sees the answer")
		}

		st := b.State()
		if st.State != mlapi.BuildFailed || st.Serves != good.Digest[:12] || st.Evals == nil ||
			!slices.Equal(st.Evals.Failed, []string{"greets"}) {
			t.Errorf("%+v, %s", st, seen.path())
		}
		if models(t, s, name)["latest"] != before || say(t, s, name) != tinymodel.Answer {
			t.Error("it serves")
		}
	}
	if g.count("chat") != 2 {
		t.Errorf("the evals of the version that failed were asked again: %v", g.calls)
	}

	// Other evals are asked of the version that is there.
	other := bad
	other.Modelfile = judged(t, name, "Two.", tinymodel.AltToken, secondAnswer).Modelfile
	other.Evals = judged(t, name, "Two.", tinymodel.AltToken, secondAnswer).Evals
	b, _ := builder(g.URL, other)
	if err := b.Apply(t.Context()); err == nil || !strings.Contains(err.Error(),
		`1 of 2 failed: "greets" (safety) must match "^hello"`) {
		t.Errorf("%v", err)
	}

	// Evals that changed since the plan are not asked.
	stale := good
	stale.Evals = other.Evals
	b, _ = builder(g.URL, stale)
	if err := b.Apply(t.Context()); err == nil || !strings.Contains(err.Error(), "EVALS_DIGEST: ") {
		t.Errorf("%v", err)
	}
}

// testFirstEvals: where the first version of all fails there is none that serves.
func testFirstEvals(t *testing.T, s *ollamatest.Server, name string) {
	b, _ := builder(s.URL, judged(t, name, "One.", tinymodel.AltToken, firstAnswer))
	if err := b.Apply(t.Context()); err == nil || !strings.Contains(err.Error(),
		"There is no version before it, so none serves") {
		t.Errorf("%v", err)
	}
	if have := models(t, s, name); have["latest"] != "" {
		t.Errorf("%v", have)
	}
}

// testFailingSeries: versions that fail neither pile up nor take the place of those that passed.
func testFailingSeries(t *testing.T, s *ollamatest.Server, name string) {
	one := judged(t, name, "One.", "", firstAnswer)
	two := judged(t, name, "Two.", "", firstAnswer)
	apply(t, s, one)
	apply(t, s, two)
	var bad Options
	for _, system := range []string{"a", "b", "c"} {
		bad = judged(t, name, system, tinymodel.AltToken, firstAnswer)
		b, _ := builder(s.URL, bad)
		if err := b.Apply(t.Context()); err == nil {
			t.Fatal("it passes")
		}
	}

	b, _ := builder(s.URL, bad)
	if all := releases(t, b); len(all) != 3 || !all[0].Wanted || all[0].Verdict !=
		mlapi.VerdictFailed || all[1].Version != two.Digest[:12] || !all[1].Serves ||
		all[2].Version != one.Digest[:12] {
		t.Errorf("%+v", all)
	}

	three := judged(t, name, "Three.", "", firstAnswer)
	apply(t, s, three)
	b, _ = builder(s.URL, three)
	var got []string
	for _, r := range releases(t, b) {
		got = append(got, r.Version)
	}
	if want := []string{three.Digest[:12], two.Digest[:12], one.Digest[:12]}; !slices.Equal(got,
		want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if have := models(t, s, name); len(have) != 7 { // each with a verdict, and latest
		t.Errorf("%v", have)
	}
}

// testRollback: an earlier version serves until the Modelfile changes, whatever starts again.
func testRollback(t *testing.T, s *ollamatest.Server, name string) {
	one := judged(t, name, "One.", "", firstAnswer)
	two := judged(t, name, "Two.", "", firstAnswer)
	apply(t, s, one)
	apply(t, s, two)
	b, _ := builder(s.URL, two)
	to, err := b.Earlier(releases(t, b), "")
	if err != nil || to.Version != one.Digest[:12] {
		t.Fatalf("%+v, %v", to, err)
	}
	if err := b.Rollback(t.Context(), to.Version); err != nil {
		t.Fatal(err)
	}

	system := func() string {
		t.Helper()
		show, err := s.Client().Show(t.Context(), Latest(name))
		if err != nil {
			t.Fatal(err)
		}
		return show.System
	}

	for range 2 {
		b, seen := builder(s.URL, two)
		if err := b.Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
		if st := b.State(); st.State != mlapi.BuildReady || !st.RolledBack ||
			st.Serves != one.Digest[:12] || system() != "One." {
			t.Errorf("%+v, %s, %s", st, seen.path(), system())
		}
	}

	// Whoever waits for somebody else's version takes the earlier one.
	b, _ = builder(s.URL, two)
	b.await = time.Millisecond
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.Await(ctx, func(ctx context.Context) ([][]api.ListModelResponse, error) {
			list, err := s.Client().List(ctx)
			return [][]api.ListModelResponse{list}, err
		})
	}()
	for deadline := time.Now().Add(20 * time.Second); b.State().State != mlapi.BuildReady; {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", b.State())
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	<-done
	if st := b.State(); !st.RolledBack || st.Serves != one.Digest[:12] || st.Evals == nil {
		t.Errorf("%+v", st)
	}

	if _, err := b.Earlier(releases(t, b), ""); err == nil || !strings.Contains(err.Error(),
		"there is no earlier version that may serve") {
		t.Errorf("after a rollback: %v", err)
	}

	// To make it serve again ends the rollback, and so does a change.
	again := two
	again.Again = true
	apply(t, s, again)
	if system() != "Two." {
		t.Errorf("after apply --again it is %q", system())
	}
	if err := b.Rollback(t.Context(), one.Digest[:12]); err != nil || system() != "One." {
		t.Errorf("%v, %q", err, system())
	}

	three := judged(t, name, "Three.", "", firstAnswer)
	apply(t, s, three)
	apply(t, s, two)
	if have := models(t, s, name); system() != "Two." || have[two.Digest[:12]+"-held"] != "" {
		t.Errorf("%q, %v", system(), have)
	}
}

// TestEarlier: without a name a rollback goes to what served before, never forward.
func TestEarlier(t *testing.T) {
	b := New(Options{Name: "m", Digest: "3"}, nil, nil, nil)
	for serves, want := range map[string]string{"3": "2", "2": "1", "1": "", "": "3"} {
		var all []mlapi.Release
		for _, v := range []string{"3", "2", "1"} {
			all = append(all, mlapi.Release{Version: v, Serves: v == serves})
		}
		to, err := b.Earlier(all, "")
		if to.Version != want || (err == nil) != (want != "") {
			t.Errorf("from %q to %q, %v, want %q", serves, to.Version, err, want)
		}
	}
}

// testOnDemand: a version is judged again when somebody asks for it, and may serve then.
func testOnDemand(t *testing.T, s *ollamatest.Server, name string) {
	apply(t, s, options(t, name, folder(t, map[string]string{
		"Modelfile": modelfile("tiny.gguf", "") + "SYSTEM Old.\n", "tiny.gguf": "",
	}), ""))
	old := models(t, s, name)["latest"]
	now := judged(t, name, "Two.", tinymodel.AltToken, firstAnswer)
	b, _ := builder(s.URL, now)
	if err := b.Apply(t.Context()); err == nil {
		t.Fatal("it passes")
	}

	all := releases(t, b)
	if len(all) != 2 || models(t, s, name)[all[1].Version] != old {
		t.Fatalf("%+v", all)
	}

	bad, unknown := all[0].Version, all[1].Version
	for version, want := range map[string]string{
		"":   "there is no earlier version",
		bad:  "failed its evals, so it cannot serve",
		"zz": "there is no version zz: there are " + bad + ", " + unknown,
	} {
		if _, err := b.Earlier(all, version); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", version, err)
		}
	}

	// What serves can be gone back to once, which holds the one that failed.
	if to, err := b.Earlier(all, unknown); err != nil || to.Version != unknown {
		t.Errorf("%+v, %v", to, err)
	}
	all[0].Held = true
	if _, err := b.Earlier(all, unknown); !errors.Is(err, ErrServes) {
		t.Errorf("%v", err)
	}
	all[0].Held = false

	all[1].Serves = false
	if _, err := b.Earlier(all, unknown); err == nil || !strings.Contains(err.Error(),
		"has not passed evals") {
		t.Errorf("%v", err)
	}

	r, err := b.Eval(t.Context(), unknown)
	if err != nil || r.Passed != 1 || releases(t, b)[1].Verdict != mlapi.VerdictPassed {
		t.Errorf("%+v, %v", r, err)
	}
	kept, err := b.Report(t.Context(), unknown)
	if err != nil || kept == nil || kept.Model != old || kept.Passed != 1 {
		t.Errorf("%+v, %v", kept, err)
	}

	// The same version with evals that it passes.
	if err := os.WriteFile(filepath.Join(filepath.Dir(now.Modelfile), "evals.yaml"),
		[]byte("cases: [{name: a, prompt: b, must: [second]}]"), 0o644); err != nil {
		t.Fatal(err)
	}
	e, err := modelfiles.LoadEvals(os.DirFS(filepath.Dir(now.Modelfile)), "Modelfile")
	if err != nil {
		t.Fatal(err)
	}
	now.Evals = e.Digest
	apply(t, s, now)
	if have := models(t, s, name); have["latest"] != have[bad] || have[bad+"-failed"] != "" ||
		have[bad+"-passed"] == "" {
		t.Errorf("%v", have)
	}
}

// testAdapter: a LoRA adapter is a file beside the Modelfile and a line in it.
func testAdapter(t *testing.T, s *ollamatest.Server, name string) {
	var adapter bytes.Buffer
	if err := tinymodel.WriteAdapter(&adapter); err != nil {
		t.Fatal(err)
	}

	plain := options(t, name, folder(t, map[string]string{
		"Modelfile": modelfile("tiny.gguf", ""), "tiny.gguf": "",
	}), "")
	apply(t, s, plain)
	adapted := options(t, name, folder(t, map[string]string{
		"Modelfile": modelfile("tiny.gguf", "") + "ADAPTER ./team.gguf\n", "tiny.gguf": "",
		"team.gguf": adapter.String(),
	}), "")
	apply(t, s, adapted)
	if got := say(t, s, name); got != tinymodel.AltAnswer {
		t.Errorf("with the adapter it says %q", got)
	}

	g := newGate(t, s.URL)
	b, _ := builder(g.URL, adapted)
	if err := b.Apply(t.Context()); err != nil || g.count("create") != 0 {
		t.Errorf("a second start: %v, calls %v", err, g.calls)
	}

	apply(t, s, plain)
	if got := say(t, s, name); got != tinymodel.Answer {
		t.Errorf("without it it says %q", got)
	}
}

// TestEvalsNeedAnAnswer: where Ollama cannot answer there is no verdict, and a turn is given back.
func TestEvalsNeedAnAnswer(t *testing.T) {
	f := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": "out of memory"})
	}))
	defer f.Close()
	o := judged(t, "m", "One.", "", firstAnswer)
	turns := 0
	o.Turn = func(context.Context) (func(), error) { turns++; return func() { turns-- }, nil }
	b, _ := builder(f.URL, o)
	if _, err := b.Eval(t.Context(), "0123456789ab"); err == nil || !strings.Contains(err.Error(),
		"does not answer the eval \"greets\": ollama: out of memory") || turns != 0 {
		t.Errorf("%v, %d turns", err, turns)
	}

	o.Turn = func(context.Context) (func(), error) { return nil, errors.New("stopping") }
	b, _ = builder(f.URL, o)
	if _, err := b.Eval(t.Context(), "0123456789ab"); err == nil || !strings.Contains(err.Error(),
		"stopping") {
		t.Errorf("%v", err)
	}
}
