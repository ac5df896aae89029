package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/client-go/kubernetes/scheme"
)

// fakeCluster starts an API server of a cluster without pods and sets KUBECONFIG for it:
//
//	fake-cluster [OPTION...]
//
// The options are deny=RESOURCE (RBAC forbids to create it), class=NAME (the default storage class)
// and namespace=STACK (the namespace of that name exists and is not the stack's).
func fakeCluster(ts *testscript.TestScript, _ bool, args []string) {
	option := func(name string) string {
		for _, a := range args {
			if v, ok := strings.CutPrefix(a, name+"="); ok {
				return v
			}
		}
		return ""
	}

	answer := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v) // an error means that the client is gone
	}

	list := func(version, kind string, items ...any) map[string]any {
		return map[string]any{
			"kind":       kind + "List",
			"apiVersion": version,
			"items":      slices.Concat([]any{}, items),
		}
	}

	empty := map[string][2]string{
		"pods":                   {"v1", "Pod"},
		"nodes":                  {"v1", "Node"},
		"services":               {"v1", "Service"},
		"persistentvolumeclaims": {"v1", "PersistentVolumeClaim"},
		"resourcequotas":         {"v1", "ResourceQuota"},
		"daemonsets":             {"apps/v1", "DaemonSet"},
		"jobs":                   {"batch/v1", "Job"},
	}

	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.Path; {
		case path == "/version":
			answer(w, map[string]string{"major": "1", "minor": "35", "gitVersion": "v1.35.4"})
		case strings.HasSuffix(path, "/selfsubjectreviews"):
			answer(w, map[string]any{
				"kind":       "SelfSubjectReview",
				"apiVersion": "authentication.k8s.io/v1",
				"status":     map[string]any{"userInfo": map[string]string{"username": "ada"}},
			})
		case strings.HasSuffix(path, "/selfsubjectaccessreviews"):
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return // the client went away
			}

			ask := &authorizationv1.SelfSubjectAccessReview{}
			if _, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, ask); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}

			of := ask.Spec.ResourceAttributes
			answer(w, map[string]any{
				"kind":       "SelfSubjectAccessReview",
				"apiVersion": "authorization.k8s.io/v1",
				"status": map[string]bool{"allowed": of.Verb != "create" ||
					of.Resource != option("deny")},
			})
		case strings.HasSuffix(path, "/storageclasses"):
			if option("class") == "" {
				answer(w, list("storage.k8s.io/v1", "StorageClass"))
				return
			}

			answer(w,
				list("storage.k8s.io/v1", "StorageClass", map[string]any{
					"metadata": map[string]any{
						"name":        option("class"),
						"annotations": map[string]string{"storageclass.kubernetes.io/is-default-class": "true"},
					},
					"provisioner": "test",
				}))
		case option("namespace") != "" &&
			strings.HasSuffix(path, "/namespaces/"+option("namespace")):
			answer(w, map[string]any{
				"kind":       "Namespace",
				"apiVersion": "v1",
				"metadata":   map[string]string{"name": option("namespace")},
			})
		case empty[path[strings.LastIndex(path, "/")+1:]][0] != "":
			of := empty[path[strings.LastIndex(path, "/")+1:]]
			answer(w, list(of[0], of[1]))
		default:
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusNotFound)
			_ = json.NewEncoder(w).Encode(map[string]any{
				"kind":       "Status",
				"apiVersion": "v1",
				"status":     "Failure",
				"reason":     "NotFound",
				"code":       404,
				"message":    path + " not found",
			})
		}
	}))

	ts.Defer(server.Close)
	file := filepath.Join(ts.Getenv("HOME"), "kubeconfig")
	ts.Check(os.WriteFile(file, fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: lab
clusters: [{name: lab, cluster: {server: %q}}]
users: [{name: ada, user: {token: none}}]
contexts: [{name: lab, context: {cluster: lab, user: ada}}]
`, server.URL), 0o600))

	ts.Setenv("KUBECONFIG", file)
}
