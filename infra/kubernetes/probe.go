package kubernetes

import (
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// liveEvery is how many intervals lie between two liveness checks. A service leaves the
// traffic (readiness) long before it is restarted, and one that is only slow for a while is
// not restarted at all.
const liveEvery = 3

// startEvery is the startup probe's period over HTTP, which costs next to nothing: it is most
// of what `up` waits for.
const startEvery = time.Second

// probes say three different things. Until startup succeeds once nothing else is asked, so a slow
// start is never a restart before StartTimeout. Readiness decides about traffic and looks at what
// the service depends on (ReadyPath). Liveness restarts, and looks at the process alone (LivePath):
// a Redis that is away must not restart the backends.
//
// Where there is no path, the kubelet runs Health.Command in the container. That costs a process
// each time, tens of milliseconds of a core.
func probes(svc stacks.Service) (startup, readiness, liveness *corev1.Probe) {
	h := svc.Health
	probe := func(path string, every time.Duration, failures int) *corev1.Probe {
		p := &corev1.Probe{
			PeriodSeconds: int32(seconds(every)), TimeoutSeconds: int32(seconds(h.Timeout)),
			FailureThreshold: int32(failures), SuccessThreshold: 1,
		}
		if path == "" {
			p.Exec = &corev1.ExecAction{Command: h.Command}
			return p
		}

		p.HTTPGet = &corev1.HTTPGetAction{
			Path: path, Port: intstr.FromString(svc.Ports[0].Name), Scheme: corev1.URISchemeHTTP,
		}
		if svc.EndsTLS() { // a kubelet shows no certificate, and does not ask whose it sees
			p.HTTPGet.Scheme = corev1.URISchemeHTTPS
		}
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
