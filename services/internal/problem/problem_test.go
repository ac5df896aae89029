package problem_test

import (
	"encoding/json"
	"net/http/httptest"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/internal/logging"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/google/go-cmp/cmp"
)

func TestWrite(t *testing.T) {
	r := httptest.NewRequest("GET", "/", nil)
	r = r.WithContext(logging.WithRequestID(r.Context(), "id-1"))
	w := httptest.NewRecorder()
	p := &problem.Problem{
		Title:         "Queue full",
		Status:        429,
		Detail:        "ä<b>",
		QueuePosition: 3,
		RetryAfter:    7,
		Errors:        []problem.FieldError{{Location: "body.x", Message: "bad"}},
	}

	problem.Write(w, r, p)
	if w.Code != 429 || w.Header().Get("Content-Type") != problem.ContentType ||
		w.Header().Get("Retry-After") != "7" || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v", w.Code, w.Header())
	}

	var got problem.Problem
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}

	want := *p
	want.RequestID = "id-1"
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if p.RequestID != "" {
		t.Error("the problem itself was changed: it may be shared")
	}
}

func TestError(t *testing.T) {
	if got := problem.New(404, "no %s", "model").Error(); got != "no model" {
		t.Errorf("%q", got)
	}
	if got := problem.New(404, "").Error(); got != "Not Found" {
		t.Errorf("%q", got)
	}
}
