package cli

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/deploy"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/project"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/infra/program"
	"github.com/codexcontinue/codexcontinue/services/status"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// made is an update of codexctl that made what the digest stands for.
func made(number int, result, settings string) deploy.Update {
	return deploy.Update{
		Number: number, Kind: "update", Result: result,
		Release: &deploy.Release{Settings: settings, Images: map[string]string{"backend": "x:1"}},
	}
}

// with is an update that has the images of an earlier release.
func with(u deploy.Update, release int) deploy.Update {
	r := *u.Release
	r.Rollback = release
	u.Release = &r
	return u
}

// TestEarlier chooses what a rollback goes back to.
func TestEarlier(t *testing.T) {
	plain := func(number int, kind string) deploy.Update {
		return deploy.Update{Number: number, Kind: kind, Result: "succeeded"}
	}

	for name, tt := range map[string]struct {
		newestFirst []deploy.Update
		number      int
		want        int
		err         string
	}{
		"the one before": {
			[]deploy.Update{made(3, "succeeded", "c"), made(2, "succeeded", "b"), made(1, "succeeded", "a")},
			0, 2, "",
		},
		"the last that differs": {
			[]deploy.Update{made(3, "succeeded", "b"), made(2, "succeeded", "b"), made(1, "succeeded", "a")},
			0, 1, "",
		},
		"before one that failed": {
			[]deploy.Update{made(3, "failed", "c"), made(2, "failed", "b"), made(1, "succeeded", "a")},
			0, 1, "",
		},
		"of one that failed though nothing differs": {
			[]deploy.Update{made(2, "failed", "a"), made(1, "succeeded", "a")}, 0, 1, "",
		},
		"before one whose model failed": {
			[]deploy.Update{made(3, deploy.ModelNotReady, "c"), made(2, deploy.ModelNotReady, "b"),
				made(1, "succeeded", "a")},
			0, 1, "",
		},
		"not to what differs in nothing from one whose model failed": {
			[]deploy.Update{made(3, deploy.ModelNotReady, "b"), made(2, "succeeded", "b"),
				made(1, "succeeded", "a")},
			0, 1, "",
		},
		"one whose model was not awaited": {
			[]deploy.Update{made(3, "succeeded", "c"), made(2, deploy.NotAwaited, "b"),
				made(1, "succeeded", "a")},
			0, 2, "",
		},
		"further back after a rollback": {
			[]deploy.Update{with(made(4, "succeeded", "d"), 2), made(3, "succeeded", "c"),
				made(2, "succeeded", "b"), made(1, "succeeded", "a")},
			0, 1, "",
		},
		"what a rollback was to": {
			[]deploy.Update{made(5, "succeeded", "e"), with(made(4, "succeeded", "d"), 2),
				made(3, "succeeded", "c"), made(2, "succeeded", "b")},
			0, 2, "",
		},
		"over one whose release is of another state": {
			[]deploy.Update{made(3, "succeeded", "c"), with(made(2, "succeeded", "b"), 9),
				made(1, "succeeded", "a")},
			0, 1, "",
		},
		"over others": {
			[]deploy.Update{plain(5, "refresh"), made(4, "succeeded", "b"), plain(3, "destroy"),
				plain(2, "update"), made(1, "succeeded", "a")},
			0, 1, "",
		},
		"a number": {
			[]deploy.Update{made(3, "succeeded", "c"), made(2, "succeeded", "b"), made(1, "succeeded", "a")},
			1, 1, "",
		},
		"nothing before": {[]deploy.Update{made(1, "succeeded", "a")}, 0, 0, "no earlier release"},
		"never up":       {[]deploy.Update{plain(1, "update")}, 0, 0, "nothing to go back to"},
		"no such number": {[]deploy.Update{made(1, "succeeded", "a")}, 7, 0, "there is no 7"},
		"a down":         {[]deploy.Update{plain(1, "destroy")}, 1, 0, "1 is no up: it was a destroy"},
		"of pulumi":      {[]deploy.Update{plain(1, "update")}, 1, 0, "another program than codexctl"},
		"one that failed": {
			[]deploy.Update{made(2, "succeeded", "b"), made(1, "failed", "a")}, 1, 0, `1 ended as "failed"`,
		},
		"one whose model failed": {
			[]deploy.Update{made(2, "succeeded", "b"), made(1, deploy.ModelNotReady, "a")}, 1, 0,
			`1 ended as "model not ready", so the stack was never that`,
		},
	} {
		got, err := earlier(tt.newestFirst, tt.number)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: %v, want %q", name, err, tt.err)
			}
			continue
		}
		if err != nil || got.Number != tt.want {
			t.Errorf("%s: %d, %v, want %d", name, got.Number, err, tt.want)
		}
	}
}

// TestSourced finds the sources of images that were kept over several rollbacks.
func TestSourced(t *testing.T) {
	of := func(u deploy.Update, revision string) deploy.Update {
		u.Release.Revision = revision
		return u
	}
	list := []deploy.Update{
		of(with(made(6, "succeeded", "f"), 9), "of-6"), of(with(made(5, "succeeded", "e"), 4), "of-5"),
		of(with(made(4, "succeeded", "d"), 1), "of-4"), {Number: 3, Kind: "refresh"},
		of(made(2, "failed", "b"), "of-2"), of(made(1, "succeeded", "a"), "of-1"),
	}

	for number, want := range map[int]string{1: "of-1", 2: "of-2", 4: "of-1", 5: "of-1", 6: "of-6"} {
		u := list[len(list)-number]
		before := *u.Release
		got := sourced(list, u)
		if got.Release.Revision != want || got.Number != number ||
			got.Release.Rollback != before.Rollback {
			t.Errorf("%d: %+v, want %s", number, got.Release, want)
		}
		if !cmp.Equal(before, *u.Release) {
			t.Errorf("%d: the list has been changed", number)
		}
	}
}

// TestReadable refuses to go back over a change of the data, also one by an up that failed.
func TestReadable(t *testing.T) {
	data := func(u deploy.Update, format int) deploy.Update {
		u.Release.Data = map[string]int{"backend": format}
		return u
	}

	old, same := made(1, "succeeded", "a"), data(made(2, "succeeded", "b"), 1)
	newer := data(made(3, "failed", "c"), 2)
	list := []deploy.Update{data(made(4, "succeeded", "d"), 2), newer, same, old}
	for _, to := range []deploy.Update{old, same} {
		err := readable(list, to)
		if err == nil || !strings.Contains(err.Error(), "backend: since 3 ") ||
			!strings.Contains(err.Error(), "restore a backup from before 3") {
			t.Errorf("to %d: %v", to.Number, err)
		}
		if err := readable([]deploy.Update{same, old}, to); err != nil {
			t.Errorf("to %d: %v", to.Number, err)
		}
	}

	if err := readable(list, newer); err != nil {
		t.Error(err)
	}

	// What the earlier release did not have is not given back.
	other := made(5, "succeeded", "e")
	other.Release.Data = map[string]int{"knowledge": 7}
	if err := readable([]deploy.Update{other, old}, old); err != nil {
		t.Error(err)
	}
}

// TestUnrecorded names what another program than codexctl has made since.
func TestUnrecorded(t *testing.T) {
	plain := func(number int) deploy.Update { return deploy.Update{Number: number, Kind: "update"} }
	list := []deploy.Update{plain(7), {Number: 6, Kind: "refresh"}, plain(5),
		made(4, "succeeded", "d"), made(3, "succeeded", "c"), plain(2), made(1, "succeeded", "a")}
	for number, want := range map[int]string{1: "7 5 2", 3: "7 5", 4: "7 5"} {
		if got := unrecorded(list, made(number, "succeeded", "x")); strings.Join(got, " ") != want {
			t.Errorf("since %d: %q, want %s", number, got, want)
		}
	}
}

// TestEditsBack changes the plain settings of the project and nothing else.
func TestEditsBack(t *testing.T) {
	key := func(k string) string { return stacks.Project + ":" + k }
	defaults := program.Config{Plain: map[string]string{
		key("debug"): "", key("edge"): "{}", key("model"): "{}", key("rollback"): "{}",
		key("logLevel"): "",
	}}
	now := program.Config{
		Plain: map[string]string{
			key("debug"): "true", key("edge"): `{"port":80,"address":"0.0.0.0"}`, key("model"): "{}",
			key("rollback"): `{"to":3}`, key("logLevel"): "", key("services"): `{"ml":{"cpu":"2"}}`,
			key("limits"): `{"atOnce":3}`, "docker:host": "here",
		},
		Secret: map[string]string{key("redisPassword"): "x", key("tlsKey"): "y"},
	}
	to := deploy.Update{
		Config: map[string]string{
			key("debug"): "", key("edge"): `{"address": "0.0.0.0", "port": 80}`,
			key("model"): `{"base":"tiny"}`, key("logLevel"): "warn", key("rollback"): `{"to":1}`,
			key("tlsKey"): "now a secret", "docker:host": "there",
		},
		Secrets: []string{key("redisPassword"), key("limits")},
	}

	e := editsBack(now, defaults, to)
	want := edits{
		set:    map[string]string{key("model"): `{"base":"tiny"}`, key("logLevel"): "warn"},
		remove: []string{key("debug"), key("services")},
		stays: map[string]string{
			key("limits"): "it was a secret then",
		},
	}
	if d := cmp.Diff(want, e, cmp.AllowUnexported(edits{})); d != "" {
		t.Error(d)
	}

	after := e.of(now, defaults)
	if after.Plain[key("debug")] != "" || after.Plain[key("model")] != `{"base":"tiny"}` ||
		after.Plain["docker:host"] != "here" || len(after.Secret) != 2 {
		t.Errorf("the settings are %v", after)
	}
	if _, set := after.Plain[key("services")]; set {
		t.Error("what was not set then is set")
	}
	if now.Plain[key("debug")] != "true" {
		t.Error("the settings of now were changed")
	}
	if e := e.without(key("model")); len(e.set) != 1 {
		t.Errorf("without the model: %v", e)
	}
}

// TestEditsStay leaves backups alone, and the settings of services where what they were cannot be
// read.
func TestEditsStay(t *testing.T) {
	key := func(k string) string { return stacks.Project + ":" + k }
	defaults := program.Config{Plain: map[string]string{
		key("services"): "{}", key("backup"): "{}", key("logLevel"): "",
	}}
	now := program.Config{Plain: map[string]string{
		key("services"): `{"backend":{"cpu":"2"}}`,
		key("backup"):   `{"directory":"/srv/backups"}`,
		key("logLevel"): "warn",
	}}

	for name, to := range map[string]deploy.Update{
		"none": {Secrets: []string{key("services")}},
		"others": {
			Secrets: []string{key("services")},
			Config:  map[string]string{key("backup"): `{"directory":"/mnt/backups"}`},
		},
	} {
		e := editsBack(now, defaults, to)
		if len(e.set) != 0 || !slices.Equal(e.remove, []string{key("logLevel")}) {
			t.Errorf("%s: sets %v, removes %v", name, e.set, e.remove)
		}
		if e.stays[key("services")] == "" || e.stays[key("backup")] == "" || len(e.stays) != 2 {
			t.Errorf("%s: says that %v stay", name, e.stays)
		}
	}
}

// TestServicesBack brings back the settings of services around their secrets, which stay.
func TestServicesBack(t *testing.T) {
	const (
		api   = deploy.Services + ".backend.secrets.API_KEY"
		token = deploy.Services + ".ml.secrets.TOKEN"
		place = `{"backend":{"secrets":{"API_KEY":{"key":"b","secret":"a"}}}}`
		other = `{"backend":{"secrets":{"API_KEY":{"key":"c","secret":"a"}}}}`
	)
	defaults := program.Config{Plain: map[string]string{deploy.Services: "{}"}}
	for name, tt := range map[string]struct {
		now, to       string
		secret, inTo  []string // full keys
		set           string   // "" sets nothing
		removes       bool
		withEncrypted string // what is written, where that is more
	}{
		"a value that was another, and one that was none": {
			now: `{"backend":{"memory":"64Mi","replicas":3,"secrets":{}}}`,
			to:  `{"backend":{"memory":"1Gi"}}`, secret: []string{api}, inTo: []string{api},
			set:           `{"backend":{"memory":"1Gi"}}`,
			withEncrypted: `{"backend":{"memory":"1Gi","secrets":{"API_KEY":{"secure":"v1:0"}}}}`,
		},
		"nothing but the secret is left": {
			now: `{"backend":{"memory":"64Mi","secrets":{}},"ml":{"cpu":"2"}}`, to: "{}",
			secret: []string{api}, set: "{}",
			withEncrypted: `{"backend":{"secrets":{"API_KEY":{"secure":"v1:0"}}}}`,
		},
		"a service that is gone, and one that has come": {
			now: `{"backend":{"secrets":{}},"ml":{"cpu":"2"}}`, to: `{"gate":{"cpu":"1"}}`,
			secret: []string{api}, set: `{"gate":{"cpu":"1"}}`,
			withEncrypted: `{"backend":{"secrets":{"API_KEY":{"secure":"v1:0"}}},"gate":{"cpu":"1"}}`,
		},
		"a secret that was removed": {
			now: `{"backend":{"memory":"64Mi"}}`, to: `{"backend":{"memory":"1Gi","secrets":{}}}`,
			inTo: []string{api}, set: `{"backend":{"memory":"1Gi"}}`,
		},
		"only secrets differ": {
			now: `{"backend":{"cpu":"1","secrets":{}},"ml":{"secrets":{}}}`,
			to:  `{"backend":{"secrets":{},"cpu":"1"}}`, secret: []string{api, token},
		},
		"a removed secret was all": {now: "{}", to: `{"backend":{"secrets":{}}}`, inTo: []string{api}},
		"all was set since":        {now: `{"ml":{"cpu":"2"}}`, to: "{}", removes: true},
		"a place that was another": {now: place, to: other, set: other},
		"a secret that is in a cluster now": {
			now: place, to: `{"backend":{"cpu":"1","secrets":{}}}`, inTo: []string{api},
			set: `{"backend":{"cpu":"1","secrets":{"API_KEY":{"key":"b","secret":"a"}}}}`,
		},
		"a secret that was in a cluster": {
			now: `{"backend":{"cpu":"2","secrets":{}}}`, to: place, secret: []string{api},
			set: "{}", withEncrypted: `{"backend":{"secrets":{"API_KEY":{"secure":"v1:0"}}}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			now := program.Config{
				Plain: map[string]string{deploy.Services: tt.now}, Secret: map[string]string{},
			}
			for i, key := range tt.secret {
				now.Secret[key] = "v1:" + strconv.Itoa(i)
			}

			e := editsBack(now, defaults, deploy.Update{
				Config: map[string]string{deploy.Services: tt.to}, Secrets: tt.inTo,
			})
			if e.set[deploy.Services] != tt.set || (len(e.remove) > 0) != tt.removes ||
				len(e.stays) != 0 {
				t.Errorf("%+v", e)
			}

			if tt.set == "" {
				return
			}
			after, err := program.Config{Plain: e.set, Secret: now.Secret}.Services()
			want := tt.withEncrypted
			if want == "" {
				want = tt.set
			}
			if err != nil || after != want {
				t.Errorf("it writes %s, %v, not %s", after, err, want)
			}
		})
	}
}

// TestEdgeStays leaves an edge alone that would get a certificate back without its key.
func TestEdgeStays(t *testing.T) {
	const (
		edge     = stacks.Project + ":edge"
		first    = `{"port":8443,"tls":{"certificate":"first"}}`
		second   = `{"port":9443,"tls":{"certificate":"second"}}`
		elsewhen = `{"port":8443,"tls":{"certificate":"second"}}`
		internal = `{"tls":{"internal":true}}`
	)
	defaults := program.Config{Plain: map[string]string{edge: "{}"}}
	for name, tt := range map[string]struct {
		now, to string
		stays   bool
		want    string // what is set; "" removes it
	}{
		"another certificate":          {second, first, true, ""},
		"before the certificate":       {second, internal, true, ""},
		"before there was an edge.tls": {second, "{}", true, ""},
		"after it was given up":        {internal, first, true, ""},
		"the same certificate":         {second, elsewhen, false, elsewhen},
		"the same, in other order": {
			second, `{"tls":{"certificate":"second"},"port":1}`, false,
			`{"tls":{"certificate":"second"},"port":1}`,
		},
		"no certificate": {internal, `{"port":80}`, false, `{"port":80}`},
		"none at all":    {internal, "{}", false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			now := program.Config{Plain: map[string]string{edge: tt.now}}
			if certificate(tt.now) != "" {
				now.Secret = map[string]string{tlsKey: "x"}
			}

			e := editsBack(now, defaults, deploy.Update{Config: map[string]string{edge: tt.to}})
			if (e.stays[edge] != "") != tt.stays || e.set[edge] != tt.want ||
				slices.Contains(e.remove, edge) != (!tt.stays && tt.want == "") {
				t.Errorf("%+v", e)
			}
		})
	}
}

// TestInRegistry finds an image in a registry by its tag and by its digest.
func TestInRegistry(t *testing.T) {
	server := httptest.NewServer(registry.New())
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://") + "/team"
	img, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	at, err := name.ParseReference(host + "/codexcontinue/ml:0123456789ab")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(at, img); err != nil {
		t.Fatal(err)
	}

	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	want := "codexcontinue/ml@" + digest.String()
	for _, ref := range []string{"codexcontinue/ml:0123456789ab", want} {
		if got, err := inRegistry(t.Context(), host, ref); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", ref, got, err, want)
		}
	}

	if _, err := inRegistry(context.Background(), host, "codexcontinue/ml:ba9876543210"); err == nil {
		t.Error("an image that is not there was found")
	}
}

// TestKeptIsNotOwn neither builds nor pushes an image of an earlier release, which the sources do not
// make.
func TestKeptIsNotOwn(t *testing.T) {
	root := t.TempDir()
	dockerfile := filepath.Join(root, "Dockerfile")
	if err := os.WriteFile(dockerfile, []byte("FROM scratch\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	service := func(name, kept string) stacks.Service {
		return stacks.Service{Name: name, Image: stacks.Image{Kept: kept, Build: &stacks.Build{
			Repository: "codexcontinue/" + name, Context: ".", Dockerfile: "Dockerfile",
		}}}
	}

	stack := stacks.Stack{
		Registry: "registry.example.com", Platforms: []string{"linux/amd64", "linux/arm64"},
		Services: []stacks.Service{service("ml", "codexcontinue/ml:0123456789ab"), service("backend", "")},
	}
	own, err := ownImages(stack, root)
	if err != nil || len(own) != 1 || own[0].Service != "backend" {
		t.Errorf("got %+v, %v", own, err)
	}
}

// TestImageGone says how an image is made again where that can be, and put where the stack has its
// own.
func TestImageGone(t *testing.T) {
	const registry = "registry.example.com"
	for _, tt := range []struct {
		revision, registry string
		on                 platform
		want               string
	}{
		{"39a7f76", "", &onEngine{}, "git worktree add ../earlier 39a7f76"},
		{"39a7f76", "", &onEngine{}, "-C ../earlier images build prod"},
		{"39a7f76", "", &onCluster{}, "-C ../earlier images load prod"},
		{"39a7f76", registry, &onCluster{}, "-C ../earlier images push prod"},
		{"39a7f76-dirty", "", &onEngine{}, "in no commit: choose another release"},
		{"unknown", "", &onEngine{}, "in no commit: choose another release"},
	} {
		stack := stacks.Stack{Name: "prod", Registry: tt.registry}
		err := imageGone("ml", 41, tt.revision, stack, tt.on, goneError("gone"))
		if !strings.Contains(err.Error(), tt.want) ||
			!strings.HasPrefix(err.Error(), "services.ml: the image of 41 cannot be had: ") {
			t.Errorf("%+v: %v", tt, err)
		}
	}

	err := imageGone("ml", 41, "39a7f76", stacks.Stack{Name: "prod"}, &onEngine{}, os.ErrPermission)
	if !errors.Is(err, os.ErrPermission) || strings.Contains(err.Error(), "make it again") {
		t.Error(err)
	}
}

// TestRegistryThatRefuses takes no image for gone of which the registry says nothing.
func TestRegistryThatRefuses(t *testing.T) {
	status := http.StatusUnauthorized
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/v2/") {
			return
		}
		w.WriteHeader(status)
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")

	_, err := inRegistry(t.Context(), host, "codexcontinue/ml:0123456789ab")
	if _, gone := errors.AsType[goneError](err); gone || err == nil ||
		!strings.Contains(err.Error(), "log in with `docker login "+host+"`") {
		t.Error(err)
	}

	status = http.StatusNotFound
	_, err = inRegistry(t.Context(), host, "codexcontinue/ml:0123456789ab")
	if _, gone := errors.AsType[goneError](err); !gone {
		t.Error(err)
	}
}

// TestReplaceSettings writes the settings as a whole, and not over those of somebody else.
func TestReplaceSettings(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(root, name)
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		return path
	}

	write("Pulumi.yaml", "name: codexcontinue\nruntime: go\n")
	own := write("Pulumi.prod.yaml", "config:\n  codexcontinue:debug: true\n")
	p, err := project.Find(root)
	if err != nil {
		t.Fatal(err)
	}
	f, err := p.Stack("prod")
	if err != nil {
		t.Fatal(err)
	}

	stack := target{name: "prod", project: p, file: f}
	next := write("next.yaml", "config:\n  codexcontinue:debug: false\n")
	if err := replaceSettings(stack, next); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(own)
	if err != nil || string(b) != "config:\n  codexcontinue:debug: false\n" {
		t.Errorf("the settings are %q, %v", b, err)
	}
	if info, err := os.Stat(own); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the mode is %v, %v", info.Mode(), err)
	}

	if err := replaceSettings(stack, next); err == nil ||
		!strings.Contains(err.Error(), "somebody has changed it meanwhile") {
		t.Errorf("over another change: %v", err)
	}
	if entries, err := os.ReadDir(root); err != nil || len(entries) != 3 {
		t.Errorf("the folder has %v, %v", entries, err)
	}
}

// TestKeepsTo tells a version that will go on to serve from one that the next up replaces.
func TestKeepsTo(t *testing.T) {
	const old, wanted = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
	replica := func(serves string, held bool) status.Replica {
		return status.Replica{Releases: []status.Release{
			{Version: wanted, Wanted: true, Serves: serves == wanted, Held: held},
			{Version: old, Serves: serves == old},
		}}
	}

	for name, tt := range map[string]struct {
		replicas []status.Replica
		of       string
		want     bool
	}{
		"rolled back":           {[]status.Replica{replica(old, true), replica(old, true)}, old, true},
		"in one replica":        {[]status.Replica{replica(old, true), replica(wanted, false)}, old, false},
		"until the next up":     {[]status.Replica{replica(old, false)}, old, false},
		"what is wanted":        {[]status.Replica{replica(wanted, false)}, wanted, true},
		"wanted, and not there": {[]status.Replica{replica(old, true)}, wanted, false},
	} {
		r := status.Releases{Digest: wanted + "0123", Replicas: tt.replicas}
		if got := keepsTo(r, tt.of); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// absent is a platform on which nothing of the stack runs.
type absent struct{ platform }

func (absent) Replicas(context.Context, string) ([]running.Replica, error) { return nil, nil }

// TestGoesOn: an up that fails before it changes anything says so where something runs. One of a
// rollback may have changed the model's version.
func TestGoesOn(t *testing.T) {
	for _, tt := range []struct {
		on   platform
		o    upOptions
		want bool
	}{
		{&noticed{}, upOptions{}, true},
		{&noticed{}, upOptions{release: func() {}}, false},
		{absent{}, upOptions{}, false},
	} {
		var said strings.Builder
		a := &App{err: console.New(&said, func(string) string { return "" })}
		if err := a.goesOn(t.Context(), tt.on, "prod", tt.o, os.ErrPermission); err != os.ErrPermission {
			t.Error(err)
		}
		if strings.Contains(said.String(), "stack prod goes on as it was") != tt.want {
			t.Errorf("it says %q", said.String())
		}
	}
}

// TestSamePlace refuses to go back to where the data is not.
func TestSamePlace(t *testing.T) {
	at := func(pairs ...string) target {
		plain := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			plain[stacks.Project+":"+pairs[i]] = pairs[i+1]
		}
		return target{file: project.StackFile{Config: program.Config{Plain: plain}}}
	}

	here := at("target", "docker", "registry", "a.example.com")
	if err := samePlace(here, at("target", "docker"), deploy.Update{}); err != nil {
		t.Error(err)
	}
	for _, there := range []target{
		at("target", "kubernetes"),
		at("target", "docker", "kubernetes", `{"namespace": "chat"}`),
	} {
		err := samePlace(here, there, deploy.Update{Number: 3})
		if err == nil || !strings.HasPrefix(err.Error(), "3 was on another target or cluster") {
			t.Errorf("%v: %v", there.file.Config.Plain, err)
		}
	}

	const master = `"sentinels": ["a:26379", "b:26379"], "master": "chat"`
	for _, tt := range []struct {
		now, then string
		moved     bool
	}{
		{`{}`, `{"fsync":"always"}`, false},
		{`{"fsync":"always"}`, `{"fsync":"everysec"}`, false},
		{`{}`, `{"url":"redis://a:6379/0"}`, true},
		{`{"url":"redis://a:6379/0"}`, `{"fsync":"always"}`, true},
		{`{"url":"redis://a:6379/0"}`, `{"url":"redis://b:6379/0"}`, true},
		{`{"url":"redis://a:6379/0"}`, `{"url":"redis://a:6379/1"}`, true},
		{`{"url":"redis://a:6379"}`, `{"url":"rediss://chat@a:6379/0"}`, false},
		{`{"url":"redis://x/0",` + master + `}`, `{"url":"redis://y/0",` + master + `}`, false},
		{`{"url":"redis://x/0",` + master + `}`, `{"url":"redis://x/0","cluster":["a:26379"]}`, true},
	} {
		err := samePlace(at("redis", tt.now), at("redis", tt.then), deploy.Update{Number: 3})
		if moved := err != nil; moved != tt.moved {
			t.Errorf("from %s to %s: %v", tt.now, tt.then, err)
		}
		if tt.moved && !strings.Contains(err.Error(), "a rollback moves no data: set codexcontinue:redis") {
			t.Error(err)
		}
	}
}
