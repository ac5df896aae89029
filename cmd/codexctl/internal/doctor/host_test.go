package doctor

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/system"
)

// hardened is a host that follows every recommendation.
func hardened() engineHost {
	return engineHost{
		info: system.Info{
			Driver: "overlay2", LoggingDriver: "journald", LiveRestoreEnabled: true,
			DockerRootDir: "/var/lib/docker", ServerVersion: "28.5.2",
			SecurityOptions: []string{"name=seccomp,profile=builtin", "name=rootless",
				"name=no-new-privileges"},
			RegistryConfig: &registry.ServiceConfig{
				InsecureRegistryCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
				IndexConfigs:          map[string]*registry.IndexInfo{"docker.io": {Secure: true}},
			},
		},
		bridge:   map[string]string{"com.docker.network.bridge.enable_icc": "false"},
		local:    true,
		separate: true,
		daemon: daemonFile{
			UserlandProxy: new(false), DefaultUlimits: map[string]any{"nofile": 1},
		},
		audited: []auditedPath{{"1.1.3", "/usr/bin/dockerd"}, {"1.1.11", "/etc/docker/daemon.json"}},
		rules:   []auditRule{{"/usr/bin/dockerd", false}, {"/etc/docker", true}},
	}
}

// notFollowed returns the numbers of the recommendations that findings warn of, each with a fix.
func notFollowed(t *testing.T, h engineHost) []string {
	t.Helper()
	var out []string
	for _, f := range h.findings() {
		if f.Status != Warn {
			continue
		}
		number, _, _ := strings.Cut(strings.TrimPrefix(f.Detail, "CIS Docker "), ":")
		if f.Fix == "" {
			t.Errorf("nobody says what to do about %s", number)
		}
		out = append(out, number)
	}
	return out
}

func TestHardening(t *testing.T) {
	if got := notFollowed(t, hardened()); got != nil {
		t.Fatalf("a host that follows all does not follow %v", got)
	}

	for number, change := range map[string]func(*engineHost){
		"1.1.1": func(h *engineHost) { h.separate = false },
		"1.1.2": func(h *engineHost) {
			h.info.SecurityOptions[1] = "name=userns"
			h.info.Plugins.Authorization = []string{"opa"}
			h.members = []string{"a", "b"}
		},
		"1.1.3":         func(h *engineHost) { h.rules = h.rules[1:] },
		"1.1.11":        func(h *engineHost) { h.rules[1].tree = false },
		"1.1.3, 1.1.11": func(h *engineHost) { h.rules = []auditRule{} },
		"2.1": func(h *engineHost) {
			h.info.SecurityOptions[1] = "name=userns"
			h.info.Plugins.Authorization = []string{"opa"}
		},
		"2.2": func(h *engineHost) { h.bridge = nil },
		"2.3": func(h *engineHost) { h.daemon.LogLevel = "debug" },
		"2.4": func(h *engineHost) { h.daemon.IPTables = new(false) },
		"2.5": func(h *engineHost) { h.info.RegistryConfig.IndexConfigs["r:5000"] = &registry.IndexInfo{} },
		"2.6": func(h *engineHost) { h.info.Driver = "aufs" },
		"2.7": func(h *engineHost) {
			h.info.Warnings = []string{
				"WARNING: API is accessible on http://0.0.0.0:2375 without encryption.\n"}
		},
		"2.8":  func(h *engineHost) { h.daemon.DefaultUlimits = nil },
		"2.10": func(h *engineHost) { h.daemon.CgroupParent = "/all" },
		"2.11": func(h *engineHost) { h.daemon.StorageOptions = []string{"dm.basesize=20G"} },
		"2.13": func(h *engineHost) { h.info.LoggingDriver = "json-file" },
		"2.14": func(h *engineHost) { h.info.SecurityOptions = h.info.SecurityOptions[:2] },
		"2.15": func(h *engineHost) { h.info.LiveRestoreEnabled = false },
		"2.16": func(h *engineHost) { h.daemon.UserlandProxy = nil },
		"2.17": func(h *engineHost) { h.daemon.SeccompProfile = "unconfined" },
		"2.18": func(h *engineHost) { h.info.ExperimentalBuild = true },
	} {
		h := hardened()
		change(&h)
		got := notFollowed(t, h)
		if number == "1.1.2" { // the change needs an engine that is not rootless
			got = slices.DeleteFunc(got, func(n string) bool { return n == "2.1" })
		}
		if !slices.Equal(got, []string{number}) {
			t.Errorf("%s: got %v", number, got)
		}
	}

	// An engine of root's, with nothing set.
	h := hardened()
	h.info.SecurityOptions = nil
	for _, number := range []string{"2.1", "2.9", "2.12", "2.14", "2.17"} {
		if got := notFollowed(t, h); !slices.Contains(got, number) {
			t.Errorf("%s is followed, beside %v", number, got)
		}
	}

	// Of another machine's engine less is to be seen, and that is said.
	const never = "1.2.1, 1.2.2 (the engine is 28.5.2)"
	const audit, remote = "1.1.3 to 1.1.18, ", "1.1.1, 1.1.2, "
	for _, test := range []struct {
		change func(*engineHost)
		want   string
	}{
		{func(*engineHost) {}, never},
		{func(h *engineHost) { h.rules = nil }, audit + never},
		{func(h *engineHost) { h.local, h.separate = false, false },
			audit + remote + never + ", 2.3, 2.4, 2.8, 2.10, 2.16"},
		{func(h *engineHost) { h.local, h.separate, h.info.Driver = false, false, "devicemapper" },
			audit + remote + never + ", 2.3, 2.4, 2.8, 2.10, 2.11, 2.16"},
	} {
		h = hardened()
		test.change(&h)
		all := h.findings()
		_, unseen, _ := strings.Cut(all[len(all)-1].Detail, "not to be seen from here: ")
		if len(all) != 1 || all[0].Status != OK || unseen != test.want {
			t.Errorf("got %+v, want not to be seen %s", all, test.want)
		}
	}
}

func TestReadingTheMachine(t *testing.T) {
	const group = "root:x:0:\ndocker:x:999:ann,ben\nempty:x:998:\n"
	if got := membersOf(group, "999"); !slices.Equal(got, []string{"ann", "ben"}) {
		t.Errorf("members %v", got)
	}
	if got := membersOf(group, "998"); got != nil {
		t.Errorf("members of an empty group: %v", got)
	}
}
