package stacks_test

import (
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/google/go-cmp/cmp"
)

// TestPodSettings checks that a service's settings of pods stand beside those of all, or in the place
// of one of the same key.
func TestPodSettings(t *testing.T) {
	v, err := stacks.DecodeSettings(map[string]string{
		"target": "kubernetes",
		"kubernetes": `{"pullSecrets": ["team", "mirror"], "labels": {"team": "chat"},
			"nodeSelector": {"disk": "hdd", "zone": "a"}, "tolerations": [{"key": "shared"}],
			"priorityClass": "low"}`,
		"services": `{"redis": {"nodeSelector": {"disk": "ssd"}, "priorityClass": "high",
			"tolerations": [{"key": "data", "value": "yes", "effect": "NoExecute"}],
			"annotations": {"example.com/backup": "a: b"}}}`,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}

	want := stacks.PodSettings{
		Labels:       map[string]string{"team": "chat"},
		NodeSelector: map[string]string{"disk": "hdd", "zone": "a"},
		Tolerations:  []stacks.Toleration{{Key: "shared"}}, PriorityClass: "low",
	}
	if d := cmp.Diff(want, v.Pods(stacks.Backend)); d != "" {
		t.Errorf("backend (-want +got):\n%s", d)
	}

	want = stacks.PodSettings{
		Labels:       map[string]string{"team": "chat"},
		Annotations:  map[string]string{"example.com/backup": "a: b"},
		NodeSelector: map[string]string{"disk": "ssd", "zone": "a"},
		Tolerations: []stacks.Toleration{
			{Key: "shared"}, {Key: "data", Value: "yes", Effect: "NoExecute"},
		},
		PriorityClass: "high",
	}
	if d := cmp.Diff(want, v.Pods(stacks.Redis)); d != "" {
		t.Errorf("redis (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"team", "mirror"}, v.Kubernetes.PullSecrets); d != "" {
		t.Errorf("pull secrets (-want +got):\n%s", d)
	}
}

func TestWrongPodSettings(t *testing.T) {
	for name, tt := range map[string]struct{ key, value, want string }{
		"a label of the stack": {"kubernetes", `{"labels": {"dev.codexcontinue.stack": "x"}}`,
			`codexcontinue:kubernetes.labels: "dev.codexcontinue.stack": is the stack's own to set`},
		"no key": {"kubernetes", `{"annotations": {"a b": "x"}}`,
			`codexcontinue:kubernetes.annotations: "a b": is no key`},
		"no value": {"kubernetes", `{"labels": {"a": "x y"}}`,
			`codexcontinue:kubernetes.labels: "a": its value has at most 63`},
		"no profile of AppArmor": {"services", `{"ml": {"annotations":
			{"container.apparmor.security.beta.kubernetes.io/ml": "unconfined"}}}`,
			`codexcontinue:services.ml.annotations: ` +
				`"container.apparmor.security.beta.kubernetes.io/ml": chooses a container's profile`},
		"no profile of seccomp": {"kubernetes", `{"annotations":
			{"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}}`,
			`codexcontinue:kubernetes.annotations: ` +
				`"seccomp.security.alpha.kubernetes.io/pod": chooses a container's profile`},
		"no class": {"services", `{"redis": {"priorityClass": "High"}}`,
			`codexcontinue:services.redis.priorityClass: "High" is no name of an object`},
		"no pull secret": {"kubernetes", `{"pullSecrets": ["A"]}`,
			`codexcontinue:kubernetes.pullSecrets.0: "A" is no name of an object`},
		"no taint": {"services", `{"redis": {"tolerations": [{"effect": "NoExecute"}]}}`,
			"codexcontinue:services.redis.tolerations.0: needs the key of a taint"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := stacks.DecodeSettings(map[string]string{tt.key: tt.value}, nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}

	v, err := stacks.DecodeSettings(map[string]string{
		"services": `{"redis": {"priorityClass": "high", "nodeSelector": {"disk": "ssd"}}}`,
	}, []string{"redisPassword"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = stacks.Load("prod", v, checkout())
	for _, key := range []string{"priorityClass", "nodeSelector"} {
		want := "codexcontinue:services.redis." + key + ": the docker target cannot express it"
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}
