package cluster

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
)

// TestLogs counts the logs that are read of a container: what it logged before a restart comes
// first, and while it waits for the restart that is its log now.
func TestLogs(t *testing.T) {
	crashed := corev1.ContainerState{
		Terminated: &corev1.ContainerStateTerminated{ContainerID: "containerd://first"},
	}
	waiting := corev1.ContainerState{
		Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"},
	}

	for name, tc := range map[string]struct {
		change func(*corev1.ContainerStatus)
		want   int
	}{
		"runs": {func(s *corev1.ContainerStatus) { s.ContainerID = "containerd://first" }, 1},
		"restarted": {func(s *corev1.ContainerStatus) {
			s.ContainerID, s.LastTerminationState = "containerd://second", crashed
		}, 2},
		"waits for its restart": {func(s *corev1.ContainerStatus) {
			s.ContainerID, s.State, s.LastTerminationState = "containerd://first", waiting, crashed
		}, 1},
		"never ran": {func(s *corev1.ContainerStatus) { s.State = waiting }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := lab(runningPod("backend", func(p *corev1.Pod) {
				tc.change(&p.Status.ContainerStatuses[0])
			}))

			got := 0
			err := c.Logs(t.Context(), "backend", running.LogOptions{Tail: -1},
				func(running.Replica, string) { got++ })
			if err != nil || got != tc.want {
				t.Errorf("%d logs, %v, want %d", got, err, tc.want)
			}
		})
	}
}
