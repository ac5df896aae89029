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

// TestVolumeHas looks into a volume, and what an engine would fill it with, by a container that is not
// started and cannot change it. What the engine then lists is known for one that may be removed.
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
			case at == "containers/c1/archive" && slices.Contains(
				[]string{looksAt + "/a/b", "/of/the/image/a/d"}, r.URL.Query().Get("path")):
				w.Header().Set("X-Docker-Container-Path-Stat", "e30=") // {}
			case r.Method == http.MethodDelete:
				did = append(did, "remove "+at)
			default:
				http.Error(w, `{"message": "no such thing"}`, http.StatusNotFound)
			}
		}))

		want := []string{"a/b"}
		if images != "" {
			want = append(want, "a/d")
		}
		has := func(volume string) []string {
			did = nil
			there, err := e.VolumeHas(t.Context(), volume, "ollama:1", "/of/the/image",
				"a/b", "a/c", "a/d")
			if err != nil {
				t.Error(err)
			}
			return there
		}
		if there := has("models"); !slices.Equal(there, want) {
			t.Errorf("it has %q, want %q", there, want)
		}
		steps := []string{"make", "remove containers/c1"}
		if !slices.Equal(did, steps) {
			t.Errorf("it did %q", did)
		}
		m := made.HostConfig.Mounts
		if made.Image != name || made.HostConfig.NetworkMode != "none" || len(m) != 1 ||
			m[0].Source != "models" || !m[0].ReadOnly || !m[0].VolumeOptions.NoCopy ||
			made.Labels[running.LabelOnce] == "" || made.Labels[running.LabelUntil] == "" {
			t.Errorf("it made %+v", made)
		}

		// Where there is no volume, only the image can have something.
		made.HostConfig.Mounts = nil
		if images == "" {
			want, steps = nil, nil
		} else {
			want = []string{"a/d"}
		}
		there := has("other")
		if !slices.Equal(there, want) || !slices.Equal(did, steps) ||
			len(made.HostConfig.Mounts) > 0 {
			t.Errorf("a volume that is not there has %q, want %q; did %q", there, want, did)
		}
	}
}
