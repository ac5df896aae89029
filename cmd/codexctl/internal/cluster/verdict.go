package cluster

import (
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
)

// Finding is one cause that keeps a service from coming up.
type Finding struct {
	Service string

	// Pod is the pod whose log says more; empty if none does.
	Pod string

	// What describes the cause in a sentence. Why is the cluster's own message:
	// a condition or event.
	What, Why string

	// Todo tells how to go on.
	Todo string

	// kind tells the findings of one service apart. confirm is how long a finding has to last
	// before it is believed.
	kind    string
	confirm time.Duration
}

// How long a finding has to last. What can heal by itself (a registry that hiccups, a node that is
// being added, a pod that is leaving) gets longer than what cannot.
const (
	atOnce  = 0
	shortly = 3 * time.Second
	patient = 12 * time.Second

	// Attaching a disk, and detaching it from the node of the pod before, takes minutes.
	veryPatient = 2 * time.Minute
)

// findings returns what is wrong with a workload since an update began to work on it. It looks at
// the newest revision only: the update may mend an older one.
func (o observation) findings(work Work, since time.Time) []Finding {
	service := work.Service
	o = o.only(work, since)
	var out []Finding
	add := func(f Finding) {
		f.Service, f.Why = service, strings.TrimSpace(console.Plain(f.Why))
		out = append(out, f)
	}

	o.claimFindings(service, since, add)
	waitsForClaim := len(out) > 0
	for _, p := range o.current(service) {
		if !waitsForClaim || p.Spec.NodeName != "" {
			o.podFindings(p, since, add)
		}
	}

	o.creationFindings(service, since, add)
	for _, d := range o.deployments {
		if serviceOf(d) != service || d.Status.ObservedGeneration < d.Generation {
			continue
		}

		for _, c := range d.Status.Conditions {
			if c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse &&
				c.Reason == "ProgressDeadlineExceeded" && len(out) == 0 {
				add(Finding{
					kind: "deadline",
					What: "it did not become ready in time",
					Why:  c.Message,
					Todo: "its readiness probe fails: `codexctl logs --stack " + o.stack + " " +
						service + "` tells why",
				})
			}
		}
	}

	for _, j := range o.jobs {
		if serviceOf(j) == service {
			o.jobFindings(j, add)
		}
	}

	return out
}

// judge decides which findings are lasting.
type judge struct {
	// since maps a finding to the start of the current unbroken run of observations with it.
	since map[string]time.Time
}

// decide returns the findings that have lasted long enough.
func (j *judge) decide(findings []Finding, now time.Time) []Finding {
	seen := map[string]time.Time{}
	var sure []Finding
	for _, f := range findings {
		key := f.Service + "\x00" + f.kind
		at, ok := j.since[key]
		if !ok {
			at = now
		}
		if _, twice := seen[key]; twice {
			continue // two replicas of a service with the same trouble
		}

		seen[key] = at
		if now.Sub(at) >= f.confirm {
			sure = append(sure, f)
		}
	}

	j.since = seen
	return sure
}
