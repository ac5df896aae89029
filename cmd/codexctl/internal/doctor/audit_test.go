package doctor

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func TestAuditRules(t *testing.T) {
	for text, want := range map[string][]auditRule{
		"-w /etc/docker/ -k docker\n":                                  {{"/etc/docker", true}},
		"-a always,exit -F path=/run/containerd -F perm=war -k docker": {{"/run/containerd", false}},
		"-a exit,always -S all -F dir=/var/lib/docker":                 {{"/var/lib/docker", true}},
		"-A always,exit -F path=/usr/bin/runc":                         {{"/usr/bin/runc", false}},
		"-a never,exit -F dir=/var/lib/docker":                         {},
		"-a always,exit -F path!=/usr/bin/runc":                        {},
		"# -w /etc/docker\n#-w /etc/docker\n\n-D\n-w\n":                {},
	} {
		got := auditRules(fstest.MapFS{"rules.d/docker.rules": {Data: []byte(text)}})
		if !slices.Equal(got, want) || got == nil {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}

	// A machine without rules has none, which is known.
	if got := auditRules(os.DirFS(filepath.Join(t.TempDir(), "none"))); got == nil || len(got) != 0 {
		t.Errorf("without a folder: %v", got)
	}
	// auditctl's own file counts as well; other files do not.
	got := auditRules(fstest.MapFS{"audit.rules": {Data: []byte("-w /a")},
		"rules.d/b.rules.bak": {Data: []byte("-w /b")}})
	if !slices.Equal(got, []auditRule{{"/a", true}}) {
		t.Errorf("of audit.rules: %v", got)
	}
	// What cannot be read is not known.
	if got := auditRules(fstest.MapFS{"rules.d/b.rules/file": {}}); got != nil {
		t.Errorf("of a folder in a rule's place: %v", got)
	}
}

func TestWatches(t *testing.T) {
	for _, test := range []struct {
		rule auditRule
		name string
		want bool
	}{
		{auditRule{"/etc/docker", true}, "/etc/docker", true},
		{auditRule{"/etc/docker", true}, "/etc/docker/daemon.json", true},
		{auditRule{"/etc/docker", false}, "/etc/docker/daemon.json", false},
		{auditRule{"/etc/docker", true}, "/etc/docker2", false},
		{auditRule{"/", true}, "/usr/bin/runc", true},
	} {
		if got := test.rule.watches(test.name); got != test.want {
			t.Errorf("%v watches %s: got %v", test.rule, test.name, got)
		}
	}
}

func TestResolved(t *testing.T) {
	folder, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(folder, "link")
	if err := os.Symlink(folder, link); err != nil {
		t.Fatal(err)
	}

	got := resolved([]auditRule{{link, true}, {"/not/there", false}})
	want := []auditRule{{link, true}, {"/not/there", false}, {folder, true}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if resolved(nil) != nil {
		t.Error("what cannot be read is known by links")
	}
}

// A path that is not on the machine needs no rule.
func TestAuditedPaths(t *testing.T) {
	data := t.TempDir()
	in := func(data string) bool {
		return slices.Contains(auditedPaths(data), auditedPath{"1.1.5", data})
	}
	if !in(data) || in(filepath.Join(data, "none")) {
		t.Errorf("of %s: %v", data, auditedPaths(data))
	}
	for _, p := range auditedPaths(data) {
		if !strings.HasPrefix(p.number, "1.1.") || !filepath.IsAbs(p.path) {
			t.Errorf("%+v", p)
		}
	}
}
