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
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// lookEvery is the time between two looks at what the watches have brought.
const lookEvery = 500 * time.Millisecond

// Observer watches the stack's namespace during an update or a wait.
type Observer struct {
	c       *Cluster
	observe func() observation

	// needs maps a service to the services it needs to be ready.
	needs map[string][]string

	mu sync.Mutex

	// busy are the steps that go on, and those whose pods are not ready yet. failed
	// are those that failed.
	busy, failed map[Work]step

	// all is the time since which every workload is judged, or zero.
	all time.Time
}

// step is what an update does to a workload.
type step struct {
	// open counts the nested steps that go on; it is 0 when Pulumi is done with the workload.
	open int

	// began is the start of the outermost step, oldGeneration the workload's generation then.
	began         time.Time
	oldGeneration int64
}

// Observe starts to watch the namespace, which may not exist yet, until the context ends.
// needs maps a service to the services it needs to be ready: a service that waits for
// another one is not blamed.
func (c *Cluster) Observe(ctx context.Context, needs map[string][]string) *Observer {
	f := informers.NewSharedInformerFactoryWithOptions(c.api, 0,
		informers.WithNamespace(c.Namespace))
	pods, events := f.Core().V1().Pods().Lister(), f.Core().V1().Events().Lister()
	claims, jobs := f.Core().V1().PersistentVolumeClaims().Lister(), f.Batch().V1().Jobs().Lister()
	deployments, sets := f.Apps().V1().Deployments().Lister(), f.Apps().V1().ReplicaSets().Lister()
	stateful := f.Apps().V1().StatefulSets().Lister()

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

// Begin is called when Pulumi starts to work on the workload, End when it is done. The workload is
// judged until its pods are ready. Calls may be nested.
func (o *Observer) Begin(w Work) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.busy[w]
	if s.open <= 0 {
		s = step{began: time.Now(), oldGeneration: o.observe().generation(w)}
	}

	s.open++
	o.busy[w] = s
}

// Keep is called for a workload that the update leaves as it is. It is judged too: an earlier
// update may have left it unready.
func (o *Observer) Keep(w Work) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.busy[w] = step{began: time.Now()}
}

// End is called when Pulumi is done with the workload; see Begin.
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

// BeginAll makes the observer judge every workload from now on.
func (o *Observer) BeginAll() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = time.Now()
}

// working returns the workloads that are judged, and since when. done are those that became
// ready since the last call.
func (o *Observer) working(seen observation) (out map[Work]time.Time, done []Work) {
	o.mu.Lock()
	defer o.mu.Unlock()
	out = map[Work]time.Time{}
	if o.all.IsZero() {
		for w, s := range o.busy {
			switch {
			case s.pending(w, seen):
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
		if !ofCommand(j) {
			out[Work{Service: serviceOf(j)}] = o.all
		}
	}

	return out, nil
}

// changedWithin is how long the change of a step may take to show in the cluster. A step without a
// change waits again for what did not come up the last time.
const changedWithin = 10 * time.Second

// pending reports whether the step's change is not in the cluster yet. What is wrong there until
// then may be what the change mends.
func (s step) pending(w Work, seen observation) bool {
	return s.oldGeneration != 0 && seen.generation(w) == s.oldGeneration &&
		time.Since(s.began) < changedWithin
}

// Watch observes the namespace until the context ends, or until a service that is worked on cannot
// come up: then it returns why. It calls note, which may be nil, with the progress of the services.
func (o *Observer) Watch(ctx context.Context, note func(running.Note)) []Finding {
	j := judge{}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	noted := map[string]time.Time{}
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
				note(running.Note{Service: work.Service, Ready: true})
			}
		}

		for work, since := range working {
			service := work.Service
			findings = append(findings,
				withoutBlocked(seen.findings(work, since), seen, o.needs)...)
			if note != nil && time.Since(noted[service]) >= noteEvery {
				noted[service] = time.Now()
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

// afterwards bounds the wait until the watches show what Pulumi has seen already.
const afterwards = 2 * time.Second

// Failed returns what is wrong with the workloads whose steps failed, without
// waiting whether it lasts.
func (o *Observer) Failed(ctx context.Context) []Finding {
	seen := o.observe()
	o.mu.Lock()
	works := maps.Clone(o.failed)
	maps.DeleteFunc(works, func(w Work, s step) bool { return s.pending(w, seen) })
	o.mu.Unlock()
	if len(works) == 0 {
		return nil
	}

	var out []Finding
	_ = wait.PollUntilContextTimeout(ctx, lookEvery, afterwards, true,
		func(context.Context) (found bool, err error) {
			seen := o.observe()
			all := map[string]Finding{}
			for work, s := range works {
				for _, f := range seen.findings(work, s.began) {
					all[f.Service+"\x00"+f.kind] = f
				}
			}

			out = slices.SortedFunc(maps.Values(all), func(a, b Finding) int {
				return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.kind, b.kind))
			})
			return len(out) > 0, nil
		}) // there may be nothing

	return out
}

// noteEvery is the time between two notes about a service.
const noteEvery = 2 * time.Second

// note returns what the first pod of the service that is not ready waits for or logged last.
func (o *Observer) note(
	ctx context.Context, seen observation, service string,
) (running.Note, bool) {
	for _, p := range seen.current(service) {
		if ready(p) || ended(p) {
			continue
		}

		word, text := condition(p)
		if word == "starting" {
			if lines, err := o.c.LastLines(ctx, replica(p), 1); err == nil && len(lines) > 0 {
				text = lines[0]
			}
		}

		if word == "creating" {
			for _, e := range seen.about("Pod", p.Name, time.Time{}) {
				text = e.Message // pulling an image, mounting a volume
			}
		}

		return running.Note{Service: service, Text: text}, true
	}

	return running.Note{}, false
}

// unblock deletes the pods of a StatefulSet that are broken and of an older revision.
// Its controller waits for them to become ready before it goes on, and they never
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
				continue // the update reports that it waits
			}
		}
	}
}
