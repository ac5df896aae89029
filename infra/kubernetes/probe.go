package kubernetes

import (
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// liveEvery is how many intervals lie between two liveness checks. A service leaves the traffic (readiness) long before
// it is restarted, and one that is only slow for a while is not restarted at all.
const liveEvery = 3

// startEvery is the startup probe's period over HTTP, which costs next to nothing: it is most of what `up` waits for.
const startEvery = time.Second

// probes say three different things. Until startup succeeds once nothing else is asked, so a slow start is never a
// restart before StartTimeout. Readiness decides about traffic and looks at what the service depends on (ReadyPath).
// Liveness restarts, and looks at the process alone (LivePath): a Redis that is away must not restart the backends.
//
// Where there is no path, the kubelet runs Health.Command in the container. That costs a process each time, tens of
// milliseconds of a core.
func probes(svc stacks.Service) (startup, readiness, liveness *corev1.ProbeArgs) {
	h := svc.Health
	probe := func(path string, every time.Duration, failures int) *corev1.ProbeArgs {
		p := &corev1.ProbeArgs{
			PeriodSeconds: pulumi.Int(seconds(every)), TimeoutSeconds: pulumi.Int(seconds(h.Timeout)),
			FailureThreshold: pulumi.Int(failures), SuccessThreshold: pulumi.Int(1),
		}
		if path == "" {
			p.Exec = corev1.ExecActionArgs{Command: pulumi.ToStringArray(h.Command)}
			return p
		}
		p.HttpGet = corev1.HTTPGetActionArgs{Path: pulumi.String(path), Port: pulumi.String(svc.Ports[0].Name), Scheme: pulumi.String("HTTP")}
		return p
	}
	live, ready := h.LivePath, h.ReadyPath
	if ready == "" {
		ready = live
	}
	period := h.Interval
	if live != "" {
		period = startEvery
	}
	startup = probe(live, period, max(h.Retries, int((svc.StartTimeout+period-1)/period)))
	readiness = probe(ready, h.Interval, h.Retries)
	liveness = probe(live, liveEvery*h.Interval, h.Retries)
	return startup, readiness, liveness
}
