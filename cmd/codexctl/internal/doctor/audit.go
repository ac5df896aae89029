package doctor

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// auditFolder has the machine's audit rules.
const auditFolder = "/etc/audit"

// units are the folders of systemd's units, of which the first that has one counts.
var units = []string{"/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}

// auditedPath is a path that the benchmark wants an audit rule for.
type auditedPath struct{ number, path string }

// auditedPaths returns those of the benchmark that are on this machine, where the engine keeps its
// data in the folder. What is not there needs no rule.
func auditedPaths(data string) []auditedPath {
	var out []auditedPath
	for _, p := range []struct {
		number string
		at     []string // of which the first that is there counts
	}{
		{"1.1.3", []string{"/usr/bin/dockerd", "/usr/sbin/dockerd"}},
		{"1.1.4", []string{"/run/containerd"}},
		{"1.1.5", []string{data}},
		{"1.1.6", []string{"/etc/docker"}},
		{"1.1.7", below(units, "docker.service")},
		{"1.1.8", []string{"/run/containerd/containerd.sock"}},
		{"1.1.9", below(units, "docker.socket")},
		{"1.1.10", []string{"/etc/default/docker"}},
		{"1.1.11", []string{daemonJSON}},
		{"1.1.12", []string{"/etc/containerd/config.toml"}},
		{"1.1.13", []string{"/etc/sysconfig/docker"}},
		{"1.1.14", []string{"/usr/bin/containerd"}},
		{"1.1.15", []string{"/usr/bin/containerd-shim"}},
		{"1.1.16", []string{"/usr/bin/containerd-shim-runc-v1"}},
		{"1.1.17", []string{"/usr/bin/containerd-shim-runc-v2"}},
		{"1.1.18", []string{"/usr/bin/runc", "/usr/sbin/runc"}},
	} {
		i := slices.IndexFunc(p.at, func(name string) bool {
			_, err := os.Stat(name)
			return !errors.Is(err, fs.ErrNotExist)
		})
		if i >= 0 {
			out = append(out, auditedPath{p.number, p.at[i]})
		}
	}
	return out
}

// below returns the path of the name in each folder.
func below(folders []string, name string) []string {
	var out []string
	for _, folder := range folders {
		out = append(out, path.Join(folder, name))
	}
	return out
}

// auditRule watches a path and, if tree is set, all that is below it.
type auditRule struct {
	path string
	tree bool
}

func (r auditRule) watches(name string) bool {
	return r.path == name || r.tree && strings.HasPrefix(name, strings.TrimSuffix(r.path, "/")+"/")
}

// unwatched returns the paths that no rule watches, and a finding that names them: they have one
// remedy.
func unwatched(paths []auditedPath, rules []auditRule) ([]auditedPath, []Finding) {
	paths = slices.DeleteFunc(slices.Clone(paths), func(p auditedPath) bool {
		real, err := filepath.EvalSymlinks(p.path)
		return slices.ContainsFunc(rules, func(r auditRule) bool {
			return r.watches(p.path) || err == nil && r.watches(real)
		})
	})
	if len(paths) == 0 {
		return nil, nil
	}

	var numbers, names []string
	for _, p := range paths {
		numbers, names = append(numbers, p.number), append(names, p.path)
	}
	return paths, found(Warn, "add -w PATH -k docker for each to a file in "+auditFolder+
		"/rules.d, and run augenrules --load", "CIS Docker %s: no audit rule watches %s",
		strings.Join(numbers, ", "), strings.Join(names, ", "))
}

// resolved returns the rules, and once more those that name a path by a link, such as /var/run.
func resolved(rules []auditRule) []auditRule {
	for _, r := range rules {
		if name, err := filepath.EvalSymlinks(r.path); err == nil && name != r.path {
			rules = append(rules, auditRule{name, r.tree})
		}
	}
	return rules
}

// auditRules returns the rules below the folder, which is the machine's for them; nil if one cannot
// be read. A machine without the folder has none.
func auditRules(folder fs.FS) []auditRule {
	if _, err := fs.ReadDir(folder, "."); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	// fs.Glob leaves out what it may not read.
	if _, err := fs.ReadDir(folder, "rules.d"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	names, err := fs.Glob(folder, "rules.d/*.rules")
	if err != nil {
		return nil
	}
	if _, err := fs.Stat(folder, "audit.rules"); err == nil {
		names = append(names, "audit.rules")
	}

	out := []auditRule{}
	for _, name := range names {
		text, err := fs.ReadFile(folder, name)
		if err != nil {
			return nil
		}
		for line := range strings.Lines(string(text)) {
			out = append(out, rulesOf(strings.Fields(line))...)
		}
	}
	return out
}

// rulesOf returns what a line of a file of rules watches: by -w PATH, or by -a always,exit with
// -F path= or -F dir=. See auditctl(8).
func rulesOf(words []string) []auditRule {
	var out []auditRule
	if len(words) == 0 || strings.HasPrefix(words[0], "#") {
		return nil
	}

	for i, word := range words[:len(words)-1] {
		next := words[i+1]
		switch word {
		case "-w":
			out = append(out, auditRule{path.Clean(next), true})
		case "-a", "-A":
			if !slices.Contains(strings.Split(next, ","), "always") {
				return nil
			}
		case "-F":
			if name, ok := strings.CutPrefix(next, "path="); ok {
				out = append(out, auditRule{path.Clean(name), false})
			}
			if name, ok := strings.CutPrefix(next, "dir="); ok {
				out = append(out, auditRule{path.Clean(name), true})
			}
		}
	}
	return out
}
