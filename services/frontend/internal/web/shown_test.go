package web_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

// TestProgress shows how far the model's download is, in numbers that a person reads.
func TestProgress(t *testing.T) {
	s := newSite(t, echo)
	v := s.visitor()
	for _, tc := range []struct {
		completed, total int64
		want             string
	}{
		{0, 4e9, "0 % (0 kB of 4.0 GB)"},
		{1, 4e9, "0 % (0 kB of 4.0 GB)"},
		{40e6, 4e9, "1 % (40 MB of 4.0 GB)"},
		{1e6, 100e6, "1 % (1 MB of 100 MB)"},
		{5e3, 10e3, "50 % (5 kB of 10 kB)"},
		{999e6, 1e9, "99 % (999 MB of 1.0 GB)"},
		{4e9, 4e9, "99 % (4.0 GB of 4.0 GB)"},
		{5, -1, "0 % (0 kB of -0 kB)"},
	} {
		s.backend.Build(mlapi.Build{
			Name: "codexcontinue", State: mlapi.BuildPulling, Completed: tc.completed, Total: tc.total,
		})
		r := v.get("/status")
		if r.StatusCode != http.StatusOK || !strings.Contains(r.body, ": "+tc.want) {
			t.Errorf("%d of %d: %s without %q", tc.completed, tc.total, r.Status, tc.want)
		}
	}
}

// TestRelease: the page says which version answers, and what came of the evals.
func TestRelease(t *testing.T) {
	s := newSite(t, echo)
	v := s.visitor()
	for want, build := range map[string]mlapi.Build{
		"Version <code>0a1b2c3d4e5f</code> answers.": {Serves: "0a1b2c3d4e5f"},
		"Version <code>0a1b2c3d4e5f</code> answers: somebody went back to it from a later one.": {
			Serves: "0a1b2c3d4e5f", RolledBack: true,
		},
		"12 of 12 evals passed.": {Evals: &mlapi.EvalsSummary{Passed: 12, Total: 12}},
		"1 of 3 evals passed, these not: greets, refuses.": {
			Evals: &mlapi.EvalsSummary{Passed: 1, Total: 3, Failed: []string{"greets", "refuses"}},
		},
	} {
		build.Name, build.State = "codexcontinue", mlapi.BuildReady
		s.backend.Build(build)
		if body := v.get("/status").body; !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}

	s.backend.Build(mlapi.Build{Name: "codexcontinue", State: mlapi.BuildReady})
	if body := v.get("/status").body; strings.Contains(body, "evals passed") {
		t.Error("without evals it says something of them")
	}
}

// TestLatency shows how long a service takes, and nothing where that is not known.
func TestLatency(t *testing.T) {
	s := newSite(t, echo)
	v := s.visitor()
	for ms, want := range map[float64]string{
		0: ">0.0 ms<", 1.25: ">1.2 ms<", 999.9: ">999.9 ms<", 1000: ">1.0 s<", 2500: ">2.5 s<", -1: "",
	} {
		s.backend.SetStatus(backendapi.Status{
			Status: backendapi.StatusReady,
			Services: []backendapi.ServiceStatus{
				{Name: "redis", Status: backendapi.StatusReady, LatencyMS: ms},
			},
		})
		body := v.get("/status").body
		if !strings.Contains(body, want) || strings.Count(body, "latency") != min(len(want), 1) {
			t.Errorf("%v ms: the page lacks %q, or shows another", ms, want)
		}
	}
}

// TestTitles names the domain behind the page, and alone on the front page.
func TestTitles(t *testing.T) {
	s := newSite(t, echo)
	v := s.visitor()
	v.do("POST", "/chat", "message=mine")
	for path, want := range map[string]string{
		"/": "<title>CodexContinue</title>", "/c/c1": "<title>mine · CodexContinue</title>",
	} {
		mustContain(t, v.get(path).body, want)
	}
	for status, want := range map[int]string{
		409: "<title>Conflict · CodexContinue</title>",
		500: "<title>This did not work · CodexContinue</title>",
		503: "<title>This did not work · CodexContinue</title>",
	} {
		s.backend.Fail("PATCH /api/conversations/{id}", problem.New(status, "no"))
		if r := v.do("POST", "/c/c1/rename", "title=x"); !strings.Contains(r.body, want) {
			t.Errorf("%d shows no %q", status, want)
		}
	}
}

// TestChosenTheme keeps the choice for long, and forgets it where it is the system's.
func TestChosenTheme(t *testing.T) {
	v := newSite(t, echo).visitor()
	for _, tc := range []struct {
		theme string
		kept  bool
		shown string
	}{
		{"light", true, "light"}, {"dark", true, "dark"}, {"auto", false, "auto"}, {"x", false, "auto"},
	} {
		c := v.do("POST", "/theme", "theme="+tc.theme).Cookies()[0]
		if kept := c.MaxAge > int((30 * 24 * time.Hour).Seconds()); kept != tc.kept ||
			!kept && (c.MaxAge >= 0 || c.Value != "") {
			t.Errorf("%s: the cookie is %+v", tc.theme, c)
		}
		mustContain(t, v.get("/").body, `data-theme="`+tc.shown+`"`)
	}
	v.jar.m["theme"] = &http.Cookie{Name: "theme", Value: "pink"}
	mustContain(t, v.get("/").body, `data-theme="auto"`)
}

// TestResendable tells the page's script which refusals may be gone in a moment.
func TestResendable(t *testing.T) {
	s := newSite(t, echo)
	v := s.visitor()
	for _, tc := range []struct {
		status int
		kind   string
		want   bool
	}{
		{http.StatusBadGateway, "", true}, {http.StatusGatewayTimeout, "", true},
		{http.StatusServiceUnavailable, "", false}, {http.StatusConflict, "", false},
		{http.StatusServiceUnavailable, problem.TypeDraining, true},
		{http.StatusServiceUnavailable, problem.TypeStarting, true},
	} {
		s.backend.Fail("POST /api/chat", &problem.Problem{
			Title: "Refused", Status: tc.status, Type: tc.kind,
		})
		r := v.do("POST", "/chat", "message=x", "Accept", "application/json")
		if got := strings.Contains(r.body, `"resend":true`); got != tc.want {
			t.Errorf("%d %q may be sent again: %v", tc.status, tc.kind, got)
		}
	}
}

// TestSummary says in one sentence whether all is well.
func TestSummary(t *testing.T) {
	s := newSite(t, echo)
	v := s.visitor()
	const (
		ready, degraded, down = backendapi.StatusReady, backendapi.StatusDegraded, backendapi.StatusDown
		works, almost         = "Everything works.", "Almost there: the model is being prepared."
		broken                = "Something does not work as it should."
	)
	for _, tc := range []struct {
		all, redis, model string
		want              string
	}{
		{ready, ready, mlapi.BuildReady, works},
		{degraded, ready, mlapi.BuildPulling, almost},
		{degraded, degraded, mlapi.BuildPulling, almost},
		{degraded, down, mlapi.BuildPulling, broken},
		{degraded, ready, mlapi.BuildFailed, broken},
		{degraded, ready, mlapi.BuildReady, broken},
	} {
		s.backend.SetStatus(backendapi.Status{
			Status: tc.all, Model: mlapi.Build{Name: "codexcontinue", State: tc.model},
			Services: []backendapi.ServiceStatus{
				{Name: "redis", Status: tc.redis}, {Name: "frontend", Status: ready, LatencyMS: 7},
			},
		})
		body := v.get("/status").body
		for _, sentence := range []string{works, almost, broken} {
			if strings.Contains(body, sentence) != (sentence == tc.want) {
				t.Errorf("%+v: %q is there: %v", tc, sentence, sentence != tc.want)
			}
		}
		if strings.Contains(body, "7.0 ms") {
			t.Error("this page's own server is told how long it takes to itself")
		}
	}
}
