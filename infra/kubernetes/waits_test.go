package kubernetes

import (
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestWaits: a pod that cannot start is waited for minutes, the rolling update of many pods as long
// as its steps take. The test asks for services that no stack has, so it is inside the package.
func TestWaits(t *testing.T) {
	gpu := &stacks.GPU{Count: 1}
	for name, tc := range map[string]struct {
		kind                 string
		most                 int
		gpu                  *stacks.GPU
		start, grace         time.Duration
		create, update, gone time.Duration
	}{
		"one": {kindDeployment, 1, nil, 2 * time.Minute, 20 * time.Second,
			5 * time.Minute, 5 * time.Minute, 85 * time.Second},
		"two": {kindDeployment, 2, nil, 2 * time.Minute, 20 * time.Second,
			5 * time.Minute, 8 * time.Minute, 85 * time.Second},
		"a hundred": {kindDeployment, 100, nil, 2 * time.Minute, 20 * time.Second,
			5 * time.Minute, 14 * time.Minute, 85 * time.Second},
		"with GPUs": {kindDeployment, 2, gpu, 2 * time.Minute, 25 * time.Second,
			5 * time.Minute, 9 * time.Minute, 90 * time.Second},
		"with a volume": {kindStatefulSet, 1, nil, 5 * time.Minute, 30 * time.Second,
			8 * time.Minute, 8*time.Minute + 30*time.Second, 90 * time.Second},
		"twenty with models": {kindStatefulSet, 20, gpu, 5 * time.Minute, 30 * time.Second,
			8 * time.Minute, 75 * time.Minute, 90 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			p := plan{kind: tc.kind}
			p.GPU, p.StartTimeout, p.StopGrace, p.Replicas = tc.gpu, tc.start, tc.grace, tc.most
			p.Ports = []stacks.Port{{Name: "http"}}
			got := p.timeouts()
			for what, x := range map[string]struct {
				text string
				want time.Duration
			}{
				"create": {got.Create, tc.create},
				"update": {got.Update, tc.update},
				"delete": {got.Delete, tc.gone},
			} {
				if d, err := time.ParseDuration(x.text); err != nil || d != x.want {
					t.Errorf("%s takes %s at most (%v), want %s", what, x.text, err, x.want)
				}
			}
		})
	}
}
