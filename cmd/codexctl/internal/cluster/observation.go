package cluster

import (
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// observation is the state of the stack's namespace at one time.
type observation struct {
	pods         []*corev1.Pod
	events       []*corev1.Event
	deployments  []*appsv1.Deployment
	replicaSets  []*appsv1.ReplicaSet
	statefulSets []*appsv1.StatefulSet
	jobs         []*batchv1.Job
	claims       []*corev1.PersistentVolumeClaim

	// stack is the stack's name on the command line.
	stack string
}

// Work identifies a workload of a service, on which an update works.
type Work struct {
	Service string
	// Kind is deploy, sts or job; empty stands for all of them.
	Kind string
	// Job is the name of one Job of the service; empty stands for its newest.
	Job string
}

func (w Work) on(kind string) bool { return w.Kind == "" || w.Kind == kind }

// generation returns the generation of the workload's specification, or 0 if it is not there.
func (o observation) generation(w Work) int64 {
	if w.Kind == "deploy" {
		for _, d := range o.deployments {
			if serviceOf(d) == w.Service {
				return d.Generation
			}
		}
	}

	if w.Kind == "sts" {
		for _, s := range o.statefulSets {
			if serviceOf(s) == w.Service {
				return s.Generation
			}
		}
	}

	return 0
}

// only returns the observation without other workloads, and with only one Job of the service: that
// of the work, or the newest.
func (o observation) only(work Work, since time.Time) observation {
	if !work.on("deploy") {
		o.deployments = nil
	}
	if !work.on("sts") {
		o.statefulSets = nil
	}

	var newest *batchv1.Job
	for _, j := range o.jobs {
		if work.Job != "" && j.Name != work.Job {
			continue
		}
		if work.on("job") && serviceOf(j) == work.Service &&
			(newest == nil || newest.CreationTimestamp.Before(&j.CreationTimestamp)) {
			newest = j
		}
	}

	o.jobs = nil
	// A step on a Job makes a new one, as a Job cannot be changed.
	if newest != nil && (work.Kind == "" ||
		!newest.CreationTimestamp.Time.Before(since.Truncate(time.Second))) {
		o.jobs = []*batchv1.Job{newest}
	}

	return o
}

// current returns the pods of the service's newest revision that are not being deleted,
// and those of its Jobs.
func (o observation) current(service string) []*corev1.Pod {
	newest := map[string]bool{} // names of ReplicaSets, StatefulSets' revisions and Jobs
	for _, r := range o.newestSets(service) {
		newest[r.Name] = true
	}

	for _, s := range o.statefulSets {
		if serviceOf(s) == service && s.Status.ObservedGeneration >= s.Generation {
			newest[s.Status.UpdateRevision] = true
		}
	}

	for _, j := range o.jobs {
		if serviceOf(j) == service && !finished(j) {
			newest[j.Name] = true
		}
	}

	var out []*corev1.Pod
	for _, p := range o.pods {
		if serviceOf(p) != service || p.DeletionTimestamp != nil {
			continue
		}

		owner := metav1.GetControllerOf(p)
		if owner != nil && newest[owner.Name] ||
			newest[p.Labels[appsv1.ControllerRevisionHashLabelKey]] {
			out = append(out, p)
		}
	}

	return out
}

// newestSets returns the ReplicaSets of the newest revisions of the service's Deployments, as far
// as their controller has seen them.
func (o observation) newestSets(service string) []*appsv1.ReplicaSet {
	var out []*appsv1.ReplicaSet
	for _, d := range o.deployments {
		if serviceOf(d) != service || d.Status.ObservedGeneration < d.Generation {
			continue
		}

		for _, r := range o.replicaSets {
			if metav1.IsControlledBy(r, d) &&
				r.Annotations[revisionKey] == d.Annotations[revisionKey] {
				out = append(out, r)
			}
		}
	}

	return out
}

// leaving reports whether a pod is being deleted.
func (o observation) leaving() bool {
	return slices.ContainsFunc(o.pods, func(p *corev1.Pod) bool {
		return p.DeletionTimestamp != nil
	})
}

// revisionKey is the annotation in which the Deployment controller numbers revisions.
const revisionKey = "deployment.kubernetes.io/revision"

// about returns the events of an object since a time, the oldest first.
func (o observation) about(kind, name string, since time.Time) []*corev1.Event {
	var out []*corev1.Event
	for _, e := range o.events {
		// The times of events are whole seconds.
		if e.InvolvedObject.Kind == kind && e.InvolvedObject.Name == name &&
			!when(e).Before(since.Truncate(time.Second)) {
			out = append(out, e)
		}
	}

	slices.SortStableFunc(out, func(a, b *corev1.Event) int { return when(a).Compare(when(b)) })
	return out
}

// when returns the last time the event happened, whichever field its component fills in.
func when(e *corev1.Event) time.Time {
	at := e.LastTimestamp.Time
	for _, t := range []time.Time{e.EventTime.Time, e.FirstTimestamp.Time, e.CreationTimestamp.Time} {
		if t.After(at) {
			at = t
		}
	}

	if e.Series != nil && e.Series.LastObservedTime.After(at) {
		at = e.Series.LastObservedTime.Time
	}

	return at
}
