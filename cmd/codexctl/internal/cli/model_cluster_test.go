package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/models"
	"github.com/codexcontinue/codexcontinue/services/status"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// newCluster is the API server of a cluster on which the stack was never up. It has the claims, and
// notes what is changed. It takes what is made, and runs nothing.
type newCluster struct {
	claims  []string
	models  string // is the claims' annotation of what was imported
	started func() // is called when a Job is started
	forbids string // a verb and a resource, with a space between

	mu   sync.Mutex
	did  []string
	made []map[string]any
}

func (f *newCluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := func(v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v) // an error means that the client is gone
	}

	words := strings.Split(strings.TrimPrefix(r.URL.Path, "/"), "/")
	last := words[len(words)-1]
	body := map[string]any{}
	if r.Method == http.MethodPost {
		var err error
		if body, err = objectOf(r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}

	meta, _ := body["metadata"].(map[string]any)
	switch {
	case last == "selfsubjectreviews":
		answer(body)
	case last == "selfsubjectaccessreviews":
		spec, _ := body["spec"].(map[string]any)
		of, _ := spec["resourceAttributes"].(map[string]any)
		asked := fmt.Sprint(of["verb"], " ", of["resource"])
		body["status"] = map[string]any{"allowed": asked != f.forbids}
		answer(body)
	case r.URL.Query().Get("watch") != "":
		w.Header().Set("Content-Type", "application/json")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	case r.Method == http.MethodPost:
		if name, ok := meta["generateName"]; ok {
			meta["name"] = fmt.Sprint(name, "1")
		}
		f.note("make "+last+" "+fmt.Sprint(meta["name"]), body)
		answer(body)
	case r.Method == http.MethodPatch:
		f.note("start "+last, nil)
		f.started()
		answer(map[string]any{"metadata": map[string]any{"name": last}})
	case r.Method == http.MethodDelete:
		f.note("remove "+last, nil)
		answer(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Success"})
	case last == "storageclasses":
		answer(map[string]any{"items": []any{map[string]any{"metadata": map[string]any{
			"name":        "standard",
			"annotations": map[string]string{"storageclass.kubernetes.io/is-default-class": "true"},
		}}}})
	case last == "nodes": // one without an image
		answer(map[string]any{"items": []any{map[string]any{}}})
	case last == "persistentvolumeclaims":
		items := []any{}
		for _, name := range f.claims {
			items = append(items, map[string]any{"metadata": map[string]any{
				"name":        name,
				"annotations": map[string]string{"dev.codexcontinue.models": f.models},
			}})
		}
		answer(map[string]any{"items": items})
	case last == "codexcontinue-lock":
		f.lock(w, answer)
	case strings.HasPrefix(last, "codexcontinue-"), // the namespace
		len(words) > 1 && words[len(words)-2] == "statefulsets":
		notFound(w)
	default:
		answer(map[string]any{"items": []any{}})
	}
}

// objectOf reads an object in any of the API's formats.
func objectOf(r io.Reader) (map[string]any, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	o, _, err := scheme.Codecs.UniversalDeserializer().Decode(text, nil, nil)
	if err != nil {
		return nil, err
	}
	return runtime.DefaultUnstructuredConverter.ToUnstructured(o)
}

// lock answers with the lock of the stack as it was made.
func (f *newCluster) lock(w http.ResponseWriter, answer func(any)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range f.made {
		if x["kind"] == "ConfigMap" {
			answer(x)
			return
		}
	}
	notFound(w)
}

func notFound(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusNotFound)
	io.WriteString(w, `{"kind": "Status", "apiVersion": "v1", "status": "Failure",
		"reason": "NotFound", "code": 404, "message": "not found"}`)
}

func (f *newCluster) note(did string, made map[string]any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.did = append(f.did, did)
	if made != nil {
		f.made = append(f.made, made)
	}
}

// kubeconfig starts the API server, and returns the file that leads to it.
func (f *newCluster) kubeconfig(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	err := os.WriteFile(kubeconfig, fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: lab
clusters: [{name: lab, cluster: {server: %q}}]
users: [{name: ada, user: {token: none}}]
contexts: [{name: lab, context: {cluster: lab, user: ada}}]
`, server.URL), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return kubeconfig
}

// app returns codexctl in dir, whose cluster is f, and what it says.
func (f *newCluster) app(t *testing.T, dir string) (*App, *strings.Builder) {
	return appIn(dir, "KUBECONFIG="+f.kubeconfig(t))
}

const clusterClinic = "config:\n  codexcontinue:overlay: healthcare\n" +
	"  codexcontinue:target: kubernetes\n" +
	"  codexcontinue:redisPassword: {secure: AAAA}\n" +
	"  codexcontinue:internalAuthority: {secure: AAAA}\n" +
	"  codexcontinue:services: {ollama: {replicas: 1}}\n"

// TestUpWithoutModelOnCluster: up says what to type, and makes nothing, where no volume can have
// the base model. Where there is a volume, or the replicas share one, it warns.
func TestUpWithoutModelOnCluster(t *testing.T) {
	dir, _ := checkout(t, "clinic", clusterClinic)
	for name, c := range map[string]struct {
		claims []string
		shared bool
		warns  bool
	}{
		"no volume":         {nil, false, false},
		"another's volume":  {[]string{"redis-data-redis-0"}, false, false},
		"a volume":          {[]string{"ollama-data-ollama-0"}, false, true},
		"the shared volume": {nil, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := &newCluster{claims: c.claims}
			a, said := f.app(t, dir)
			on, stack, p, err := a.open(t.Context(), "clinic")
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()

			if c.warns {
				for i := range stack.Volumes {
					stack.Volumes[i].Shared = c.shared && stack.Volumes[i].Name == stacks.OllamaData
				}
				err = a.requireModels(t.Context(), on, p, stack)
			} else {
				err = a.up(t.Context(), "clinic", upOptions{})
			}
			if errors.Is(err, errReported) == c.warns || c.warns && err != nil {
				t.Errorf("it ends with %v", err)
			}
			for want, is := range map[string]bool{
				"codexctl model pull clinic llama3":        true,
				"codexctl model import clinic FILE.gguf":   true,
				status.MissingText("llama3"):               !c.warns,
				"Nothing was made or changed.":             !c.warns,
				"warning: Ollama cannot download llama3, ": c.warns,
			} {
				if strings.Contains(said.String(), want) != is {
					t.Errorf("it says\n%s\n%q: want %t", said.String(), want, is)
				}
			}
			if len(f.did) > 0 {
				t.Errorf("it did %q", f.did)
			}
		})
	}
}

// TestUpWithImportedModelOnCluster: up says nothing where the claim of each replica names the base
// model, and warns where one does not.
func TestUpWithImportedModelOnCluster(t *testing.T) {
	dir, _ := checkout(t, "clinic", clusterClinic)
	one := []string{"ollama-data-ollama-0"}
	for name, c := range map[string]struct {
		claims   []string
		models   string
		replicas int
		warns    bool
	}{
		"imported":         {one, "tiny:latest llama3:latest", 1, false},
		"another imported": {one, "tiny:latest", 1, true},
		"for one of two":   {one, "llama3:latest", 2, true},
		"for both":         {append(one, "ollama-data-ollama-1"), "llama3:latest", 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := &newCluster{claims: c.claims, models: c.models}
			a, said := f.app(t, dir)
			on, stack, p, err := a.open(t.Context(), "clinic")
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()

			stack.Service(stacks.Ollama).Replicas = c.replicas
			err = a.requireModels(t.Context(), on, p, stack)
			warned := strings.Contains(said.String(), "warning: Ollama cannot download llama3, ")
			if err != nil || warned != c.warns || !c.warns && said.Len() > 0 {
				t.Errorf("it ends with %v, and says\n%s", err, said)
			}
		})
	}
}

// TestImportBeforeUpOnCluster: an import into a stack that was never up makes the namespace and the
// claim as the stack would, under the stack's lock, and when it is interrupted before its pod runs
// removes what it made but the namespace.
func TestImportBeforeUpOnCluster(t *testing.T) {
	dir, _ := checkout(t, "clinic", clusterClinic)
	f := &newCluster{}
	a, said := f.app(t, dir)
	on, stack, err := a.load("clinic")
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f.started = cancel
	err = a.putModel(ctx, "model import", on, stack, "tiny:latest", models.Model{},
		&modelProgress{out: a.err, now: time.Now})
	if err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("it ends with %v, and says\n%s", err, said)
	}
	if !strings.Contains(said.String(), "the nodes do not list codexcontinue/ollama:") ||
		strings.Contains(said.String(), "codexcontinue/backend:") {
		t.Errorf("it needs no image but Ollama's, and says\n%s", said)
	}

	want := []string{
		"make namespaces codexcontinue-clinic", "make configmaps codexcontinue-lock",
		"make persistentvolumeclaims ollama-data-ollama-0", "make jobs run-ollama-1",
		"make networkpolicies run-ollama-1", "start run-ollama-1", "remove run-ollama-1",
		"remove ollama-data-ollama-0", "remove codexcontinue-lock",
	}
	if !slices.Equal(f.did, want) {
		t.Fatalf("it did %q, want %q", f.did, want)
	}

	labels := f.made[0]["metadata"].(map[string]any)["labels"].(map[string]any)
	if labels["pod-security.kubernetes.io/enforce"] != "restricted" ||
		labels[stacks.LabelStack] != "clinic" {
		t.Errorf("the namespace has the labels %v", labels)
	}

	job, err := json.Marshal(f.made[3])
	if err != nil {
		t.Fatal(err)
	}
	for text, is := range map[string]bool{
		`"claimName":"ollama-data-ollama-0"`:         true,
		`"command":["/bin/ollama","serve"]`:          true,
		`"image":"codexcontinue/ollama:`:             true,
		`{"name":"OLLAMA_MODELS"`:                    true,
		`"secret"`:                                   false,
		`"configMap"`:                                false,
		`"dnsPolicy":"None"`:                         true,
		`"allowPrivilegeEscalation":false`:           true,
		`"type":"RuntimeDefault"`:                    true,
		`"serviceAccountName"`:                       false,
		`"automountServiceAccountToken":false`:       true,
		`"dev.codexcontinue.run-locked":"true"`:      true,
		`"dev.codexcontinue.service":"run-ollama"`:   true,
		`"app.kubernetes.io/managed-by":"pulumi"`:    true,
		`"fsGroupChangePolicy":"OnRootMismatch"`:     true,
		`"runAsNonRoot":true`:                        true,
		`"topologyKey":"kubernetes.io/hostname"`:     true,
		`"readOnlyRootFilesystem":true`:              true,
		`"capabilities":{"drop":["ALL"]}`:            true,
		`"startupProbe"`:                             false,
		`"cluster-autoscaler.kubernetes.io/safe-to-`: true,
	} {
		if strings.Contains(string(job), text) != is {
			t.Errorf("%s: want %t in\n%s", text, is, job)
		}
	}
}

// TestImportForbidden: without a right that only an import needs nothing is made.
func TestImportForbidden(t *testing.T) {
	dir, _ := checkout(t, "clinic", clusterClinic)
	for _, verb := range []string{"get", "create", "patch", "delete"} {
		f := &newCluster{forbids: verb + " persistentvolumeclaims"}
		a, _ := f.app(t, dir)
		on, stack, err := a.load("clinic")
		if err != nil {
			t.Fatal(err)
		}

		err = a.putModel(t.Context(), "model import", on, stack, "tiny:latest", models.Model{},
			&modelProgress{out: a.err, now: time.Now})
		if err == nil || !strings.Contains(err.Error(), "may not "+f.forbids+" in the namespace") ||
			strings.Contains(err.Error(), "doctor") {
			t.Errorf("%s is forbidden: got %v", f.forbids, err)
		}
		if len(f.did) > 0 {
			t.Errorf("%s is forbidden: it did %q", f.forbids, f.did)
		}
	}
}
