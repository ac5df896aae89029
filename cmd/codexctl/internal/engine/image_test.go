package engine

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
)

// TestRemoveImage removes an image by its name, and not one that a container is made of.
func TestRemoveImage(t *testing.T) {
	there := map[string]bool{"codexcontinue/backend:1": true, "codexcontinue/backend:2": true}
	e := connect(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		w.Header().Set("Content-Type", "application/json")
		_, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/") // without the API's version
		name := strings.TrimPrefix(path, "images/")
		switch {
		case strings.HasSuffix(r.URL.Path, "/_ping"):
		case path == "containers/json" && r.URL.Query().Get("all") == "1" &&
			r.URL.Query().Get("filters") == "": // one that has ended, of any stack, counts
			json.NewEncoder(w).Encode([]map[string]any{{"Id": "a", "ImageID": "sha256:2"}})
		case r.Method == http.MethodDelete && name == "codexcontinue/backend:2":
			w.WriteHeader(http.StatusConflict)
			fmt.Fprint(w, `{"message":"a container uses it"}`)
		case r.Method == http.MethodDelete && r.URL.Query().Get("force") == "" && there[name]:
			delete(there, name)
			fmt.Fprint(w, `[]`)
		default:
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"message":"no such image"}`)
		}
	}))

	used, err := e.UsedImages(t.Context())
	if err != nil || !maps.Equal(used, map[string]bool{"sha256:2": true}) {
		t.Errorf("used are %v, %v", used, err)
	}
	for ref, want := range map[string]string{
		"codexcontinue/backend:1": "", "codexcontinue/backend:2": "a container uses it",
		"codexcontinue/backend:3": "", // somebody has removed it meanwhile
	} {
		err := e.RemoveImage(t.Context(), ref)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", ref, err, want)
		}
	}
	if len(there) != 1 {
		t.Errorf("left are %v", there)
	}
}
