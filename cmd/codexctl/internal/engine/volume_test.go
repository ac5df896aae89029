package engine

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
)

// TestVolumeHas looks into a volume by a container that is not started, and cannot change it. What
// the engine then lists is known for one that may be removed.
func TestVolumeHas(t *testing.T) {
	for name, images := range map[string]string{
		"ollama:1":  "ollama:1", // the image is there
		"sha256:99": "",         // another one is
	} {
		var did []string
		var made struct {
			Image      string
			Labels     map[string]string
			HostConfig struct {
				NetworkMode string
				Mounts      []struct {
					Source        string
					ReadOnly      bool
					VolumeOptions struct{ NoCopy bool }
				}
			}
		}
		e := connect(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, at, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
			w.Header().Set("Content-Type", "application/json")
			switch {
			case strings.HasSuffix(r.URL.Path, "/_ping"):
			case at == "volumes/models":
				io.WriteString(w, "{}")
			case at == "images/"+images+"/json":
				io.WriteString(w, `{"Id": "sha256:1"}`)
			case at == "images/json":
				io.WriteString(w, `[{"Id": "sha256:99"}]`)
			case at == "containers/create":
				did = append(did, "make")
				if err := json.NewDecoder(r.Body).Decode(&made); err != nil {
					t.Error(err)
				}
				io.WriteString(w, `{"Id": "c1"}`)
			case at == "containers/c1/archive" && r.URL.Query().Get("path") == looksAt+"/a/b":
				w.Header().Set("X-Docker-Container-Path-Stat", "e30=") // {}
			case r.Method == http.MethodDelete:
				did = append(did, "remove "+at)
			default:
				http.Error(w, `{"message": "no such thing"}`, http.StatusNotFound)
			}
		}))

		there, err := e.VolumeHas(t.Context(), "models", "ollama:1", "a/b", "a/c")
		if err != nil || !slices.Equal(there, []string{"a/b"}) {
			t.Errorf("it has %q, %v", there, err)
		}
		if want := []string{"make", "remove containers/c1"}; !slices.Equal(did, want) {
			t.Errorf("it did %q", did)
		}
		m := made.HostConfig.Mounts
		if made.Image != name || made.HostConfig.NetworkMode != "none" || len(m) != 1 ||
			m[0].Source != "models" || !m[0].ReadOnly || !m[0].VolumeOptions.NoCopy ||
			made.Labels[running.LabelOnce] == "" || made.Labels[running.LabelUntil] == "" {
			t.Errorf("it made %+v", made)
		}

		did = nil
		if there, err := e.VolumeHas(t.Context(), "other", "ollama:1", "a/b"); err != nil ||
			len(there) > 0 || len(did) > 0 {
			t.Errorf("a volume that is not there has %q, %v; did %q", there, err, did)
		}
	}
}
