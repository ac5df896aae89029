package api

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/google/go-cmp/cmp"
)

// TestVectorsAlone: a model that is there for vectors is not offered to people, and answers nobody,
// unless the settings name it among their models as well.
func TestVectorsAlone(t *testing.T) {
	for name, c := range map[string]struct {
		models  contract.Models
		offered bool
	}{
		"for vectors alone": {},
		"for people too":    {contract.Models{"m": {}, "n:7b": {"team"}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, answers)
			i := start(t, f.URL, func(o *Options) { o.Models, o.Embedding = c.models, "n:7b" })
			ask := func(method, path, body string) *http.Response {
				t.Helper()
				req, err := http.NewRequestWithContext(t.Context(), method, i.url+path,
					strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}

				req.Header[groupHeader] = []string{"team"}
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}

				t.Cleanup(func() { resp.Body.Close() })
				return resp
			}

			b, err := io.ReadAll(ask(http.MethodGet, "/models", "").Body)
			if err != nil || strings.Contains(string(b), `"n:7b"`) != c.offered {
				t.Errorf("a person sees %s, %v", b, err)
			}

			for path, body := range map[string]string{
				"/chat":     `{"model":"n:7b","messages":[{"role":"user","content":"hi"}]}`,
				"/generate": `{"model":"n:7b","prompt":"hi"}`,
			} {
				resp := ask(http.MethodPost, path, body)
				if c.offered {
					if resp.StatusCode == http.StatusForbidden {
						t.Errorf("%s: %s", path, resp.Status)
					}
					continue
				}

				p := i.refused(http.StatusForbidden, resp)
				if p.Type != mlapi.TypeModelRefused ||
					!strings.Contains(p.Detail, `"n:7b" makes vectors of documents`) {
					t.Errorf("%s: %+v", path, p)
				}
			}

			if !c.offered {
				p := i.refused(http.StatusNotFound, ask(http.MethodPost, "/chat",
					`{"model":"absent","messages":[{"role":"user","content":"hi"}]}`))
				if strings.Contains(p.Detail, "n:7b") {
					t.Errorf("it is offered: %s", p.Detail)
				}
			}

			resp := ask(http.MethodPost, "/embed", `{"model":"n:7b","input":["hi"]}`)
			if resp.StatusCode == http.StatusForbidden {
				t.Errorf("/embed: %s", resp.Status)
			}
		})
	}
}

// askOf asks ml as somebody of the groups.
func askOf(t *testing.T, method, url, body string, groups []string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}

	req.Header[groupHeader] = groups
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// TestModelsOfGroups: nobody asks a model that is for other groups, by no route and no name, and nobody
// sees it.
func TestModelsOfGroups(t *testing.T) {
	f := newFake(t, answers)
	i := start(t, f.URL, func(o *Options) {
		o.Models = contract.Models{"m": {"team", "research"}, "a": {}}
		o.Embedding = "n:7b"
	})
	as := func(method, path, body string, groups ...string) *http.Response {
		t.Helper()
		return askOf(t, method, i.url+path, body, groups)
	}

	// What is the stack's own model, and what nobody may ask: an unnamed one, one that is not there.
	own := []string{"", "m", "m:latest", "m:0123456789ab"}
	for _, model := range append(own, "n:7b", "absent") {
		for _, groups := range [][]string{{"golf"}, {"team"}} {
			allowed := groups[0] == "team" && model != "n:7b" && model != "absent"
			for path, body := range map[string]string{
				"/chat":     `"messages":[{"role":"user","content":"hi"}]`,
				"/generate": `"prompt":"hi"`,
				"/embed":    `"input":["hi"]`,
			} {
				resp := as(http.MethodPost, path, `{"model":"`+model+`",`+body+`}`, groups...)
				if allowed {
					if resp.StatusCode == http.StatusForbidden {
						t.Errorf("%s of %q for %q: %s", path, model, groups, resp.Status)
					}
					continue
				}

				p := i.refused(http.StatusForbidden, resp)
				if p.Type != mlapi.TypeModelRefused || !strings.Contains(p.Detail, "is not for you") {
					t.Errorf("%s of %q for %q: %+v", path, model, groups, p)
				}
			}
		}
	}

	for groups, want := range map[string][]string{"golf": {"a"}, "research": {"m", "a"}} {
		var m mlapi.Models
		b, _ := io.ReadAll(as(http.MethodGet, "/models", "", groups).Body)
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}

		var names []string
		for _, x := range m.Models {
			names = append(names, x.Name)
		}
		if d := cmp.Diff(want, names); d != "" {
			t.Errorf("%s sees (-want +got):\n%s", groups, d)
		}
	}

	// What makes vectors of documents is for whoever searches them, by the service that asks for
	// itself alone.
	if resp := i.post(t.Context(), "/embed", `{"model":"n:7b","input":["hi"]}`); resp.StatusCode ==
		http.StatusForbidden {
		t.Errorf("knowledge may not embed: %s", resp.Status)
	}
	i.refused(http.StatusForbidden,
		i.post(t.Context(), "/embed", `{"model":"absent","input":["hi"]}`))

	// Another service that asks for itself sees what there is.
	resp, err := http.Get(i.url + "/models")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); !strings.Contains(string(b), `"n:7b"`) {
		t.Errorf("the backend sees %s", b)
	}
}

// TestOwnModelAlone: where ml has its own model alone for people, as with a prompt for their safety,
// nobody asks the base or another model, signed in or not, and nobody is shown one.
func TestOwnModelAlone(t *testing.T) {
	f := newFake(t, answers)
	i := start(t, f.URL, func(o *Options) { o.Models = contract.Models{"m": {}} })
	for _, groups := range [][]string{{""}, {"team"}} {
		ask := func(method, path, body string) *http.Response {
			t.Helper()
			return askOf(t, method, i.url+path, body, groups)
		}

		var m mlapi.Models
		if err := json.NewDecoder(ask(http.MethodGet, "/models", "").Body).Decode(&m); err != nil {
			t.Fatal(err)
		}
		if len(m.Models) != 1 || m.Models[0].Name != "m" {
			t.Errorf("%q sees %+v", groups, m.Models)
		}

		for path, body := range map[string]string{
			"/chat":     `"messages":[{"role":"user","content":"hi"}]`,
			"/generate": `"prompt":"hi"`,
			"/embed":    `"input":["hi"]`,
		} {
			for _, model := range []string{"n:7b", "a", "a:latest"} {
				p := i.refused(http.StatusForbidden,
					ask(http.MethodPost, path, `{"model":"`+model+`",`+body+`}`))
				if p.Type != mlapi.TypeModelRefused || !strings.Contains(p.Detail, "is not for you") {
					t.Errorf("%s of %q for %q: %+v", path, model, groups, p)
				}
			}

			if resp := ask(http.MethodPost, path, `{`+body+`}`); resp.StatusCode ==
				http.StatusForbidden {
				t.Errorf("%s of the own model for %q: %s", path, groups, resp.Status)
			}
		}
	}
}
