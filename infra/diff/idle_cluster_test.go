package diff_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"testing"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// idleCluster starts an API server at which each service of the stack is rolled out, and which
// does nothing: the program waits for that at the end of an `up` that is pretended. It returns the
// path of its kubeconfig.
func idleCluster(t *testing.T, services []string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kinds := map[string]string{"deployments": "Deployment", "statefulsets": "StatefulSet"}
		kind, ok := kinds[path.Base(r.URL.Path)]
		if !ok {
			http.Error(w, "this cluster does nothing", http.StatusNotImplemented)
			return
		}

		var items []any
		if kind == "Deployment" { // one of the two kinds is enough to say it
			for _, s := range services {
				items = append(items, map[string]any{
					"apiVersion": "apps/v1",
					"kind":       kind,
					"metadata": map[string]any{"name": s, "generation": 1,
						"labels": map[string]string{stacks.LabelService: s}},
					"spec":   map[string]any{"replicas": 0},
					"status": map[string]any{"observedGeneration": 1},
				})
			}
		}

		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"apiVersion": "apps/v1", "kind": kind + "List",
			"items": items})
	}))

	t.Cleanup(server.Close)

	file := filepath.Join(t.TempDir(), "kubeconfig")
	config := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": "idle",
		"contexts": [{"name": "idle", "context": {"cluster": "idle", "user": "idle"}}],
		"users": [{"name": "idle"}],
		"clusters": [{"name": "idle", "cluster": {"server": %q}}]}`, server.URL)

	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}

	return file
}
