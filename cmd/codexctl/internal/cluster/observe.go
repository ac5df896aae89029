package cluster

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// lookEvery is the time between two looks at what the watches have brought.
const lookEvery = 500 * time.Millisecond

// Observer watches the stack's namespace while something is waited for.
type Observer struct {
	c       *Cluster
	observe func() observation

	// needs are the services that each service needs to be ready, by its name.
	needs map[string][]string

	mu sync.Mutex

	// busy are the steps that are going on, and those whose pods are not ready yet; failed
	// are those that failed.
	busy, failed map[Work]step

	// all is since when every workload is judged; the zero time is not.
	all time.Time
}

// step is what an update does to a workload.
type step struct {
	// open counts how many of them are going on, one within the other; 0 when
	// Pulumi is done with it.
	open int

	// began is when the first of them did, and before the generation that the workload was of then.
	began  time.Time
	before int64
}

// Observe begins to watch the namespace, which may not be there yet, until the context ends. needs
// are the services that each service needs to be ready, by its name: those that suffer from
// another one are not blamed.
func (c *Cluster) Observe(ctx context.Context, needs map[string][]string) *Observer {
	f := informers.NewSharedInformerFactoryWithOptions(c.api, 0,
		informers.WithNamespace(c.Namespace))
	pods, events := f.Core().V1().Pods().Lister(), f.Core().V1().Events().Lister()
	deployments, sets, stateful := f.Apps().V1().Deployments().Lister(), f.Apps().V1().ReplicaSets().Lister(), f.Apps().V1().StatefulSets().Lister()
	jobs, claims := f.Batch().V1().Jobs().Lister(), f.Core().V1().PersistentVolumeClaims().Lister()
	mine := labels.SelectorFromSet(labels.Set{
		stacks.LabelProject: stacks.Project,
		stacks.LabelStack:   c.Stack,
	})

	o := &Observer{c: c, needs: needs, busy: map[Work]step{}, failed: map[Work]step{}}
	o.observe = func() observation {
		// Listing from memory does not fail.
		x := observation{stack: c.Stack}
		x.pods, _ = pods.List(mine)
		x.events, _ = events.List(labels.Everything())
		x.deployments, _ = deployments.List(mine)
		x.replicaSets, _ = sets.List(labels.Everything())
		x.statefulSets, _ = stateful.List(mine)
		x.jobs, _ = jobs.List(mine)
		x.claims, _ = claims.List(labels.Everything())
		return x
	}

	f.Start(ctx.Done())
	return o
}

// Begin says that an update works on the workload from now on, End that Pulumi does not any more:
// the workload is judged until its pods are ready. They may be nested.
func (o *Observer) Begin(w Work) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.busy[w]
	if s.open <= 0 {
		s = step{began: time.Now(), before: o.observe().generation(w)}
	}

	s.open++
	o.busy[w] = s
}

// Keep says that the update leaves the workload as it is. It may not be ready, whoever made it.
func (o *Observer) Keep(w Work) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.busy[w] = step{began: time.Now()}
}

// End is the other half of Begin.
func (o *Observer) End(w Work, failed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.busy[w]
	if s.open--; failed {
		o.failed[w] = s
	}

	if failed && s.open <= 0 {
		delete(o.busy, w)
		return
	}

	o.busy[w] = s
}

// BeginAll says that every workload should come up from now on.
func (o *Observer) BeginAll() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = time.Now()
}

// working returns what is judged, and since when. done are the workloads that have become
// ready since the last time.
func (o *Observer) working(seen observation) (out map[Work]time.Time, done []Work) {
	o.mu.Lock()
	defer o.mu.Unlock()
	out = map[Work]time.Time{}
	if o.all.IsZero() {
		for w, s := range o.busy {
			switch {
			case s.awaited(w, seen):
			case s.open <= 0 && seen.rolledOut(w):
				delete(o.busy, w)
				done = append(done, w)
			default:
				out[w] = s.began
			}
		}

		return out, done
	}

	for _, d := range seen.deployments {
		out[Work{Service: serviceOf(d)}] = o.all
	}

	for _, s := range seen.statefulSets {
		out[Work{Service: serviceOf(s)}] = o.all
	}

	for _, j := range seen.jobs {
		out[Work{Service: serviceOf(j)}] = o.all
	}

	return out, nil
}

// changedWithin is how long a step may take until the cluster has what it changes. A step that
// changes nothing is one that waits again for what did not come up the last time.
const changedWithin = 10 * time.Second

// awaited says that the step's change is not in the cluster yet: what is wrong there
// now is what it may mend.
func (s step) awaited(w Work, seen observation) bool {
	return s.before != 0 && seen.generation(w) == s.before && time.Since(s.began) < changedWithin
}

// Note is what a pod of a service that is worked on waits for, or said last, or that all
// of its pods are ready.
type Note struct {
	Service, Text string
	Ready         bool
}

// Watch looks again and again, until the context ends or it is decided that a service that is
// worked on cannot come up: then it returns why. It tells notes of what is waited for.
func (o *Observer) Watch(ctx context.Context, note func(Note)) []Finding {
	j := judge{}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	told := map[string]time.Time{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}

		seen := o.observe()
		var findings []Finding
		working, done := o.working(seen)
		for _, work := range done {
			if note != nil {
				note(Note{Service: work.Service, Ready: true})
			}
		}

		for work, since := range working {
			service := work.Service
			findings = append(findings,
				withoutSufferers(seen.findings(work, since), seen, o.needs)...)
			if note != nil && time.Since(told[service]) >= noteEvery {
				told[service] = time.Now()
				if n, ok := o.note(ctx, seen.only(work, since), service); ok {
					note(n)
				}
			}

			o.unblock(ctx, seen, service)
		}

		if sure := j.decide(findings, time.Now()); len(sure) > 0 {
			slices.SortFunc(sure, func(a, b Finding) int {
				return cmp.Compare(a.Service, b.Service)
			})
			return sure
		}
	}
}

// afterwards bounds how long is waited until the watches show what the update has seen already.
const afterwards = 2 * time.Second

// Failed says what is wrong with the workloads whose steps failed, without
// waiting whether it lasts.
func (o *Observer) Failed(ctx context.Context) []Finding {
	seen := o.observe()
	o.mu.Lock()
	works := maps.Clone(o.failed)
	maps.DeleteFunc(works, func(w Work, s step) bool { return s.awaited(w, seen) })
	o.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, afterwards)
	defer cancel()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for len(works) > 0 {
		seen := o.observe()
		all := map[string]Finding{}
		for work, s := range works {
			for _, f := range seen.findings(work, s.began) {
				all[f.Service+"\x00"+f.kind] = f
			}
		}

		if len(all) > 0 {
			return slices.SortedFunc(maps.Values(all), func(a, b Finding) int {
				return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.kind, b.kind))
			})
		}

		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}

	return nil
}

// noteEvery is the time between two notes about a service.
const noteEvery = 2 * time.Second

// note is about the first pod of the service that is not ready: what it waits for,
// or what it logged last.
func (o *Observer) note(ctx context.Context, seen observation, service string) (Note, bool) {
	for _, p := range seen.current(service) {
		if ready(p) || ended(p) {
			continue
		}

		word, text := condition(p)
		if word == "starting" {
			if lines, err := o.c.LastLines(ctx, p.Name, 1); err == nil && len(lines) > 0 {
				text = lines[0]
			}
		}

		if word == "creating" {
			for _, e := range seen.about("Pod", p.Name, time.Time{}) {
				text = e.Message // pulling an image, mounting a volume
			}
		}

		return Note{Service: service, Text: text}, true
	}

	return Note{}, false
}

// unblock deletes the pods of a StatefulSet that are broken and of an older revision:
// its controller waits for them to become ready before it goes on, and they never
// will (kubernetes#67250).
func (o *Observer) unblock(ctx context.Context, seen observation, service string) {
	for _, s := range seen.statefulSets {
		if serviceOf(s) != service || s.Status.ObservedGeneration < s.Generation ||
			s.Status.UpdateRevision == s.Status.CurrentRevision {
			continue
		}

		for _, p := range seen.pods {
			word, _ := condition(p)
			broken := word == "restarting" || word == "no image" || word == "failing" ||
				word == "pending"
			if !metav1.IsControlledBy(p, s) ||
				p.Labels["controller-revision-hash"] == s.Status.UpdateRevision ||
				p.DeletionTimestamp != nil || !broken {
				continue
			}

			err := o.c.api.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name,
				metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(p.UID))})
			if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
				continue // the update will say that it waits
			}
		}
	}
}
