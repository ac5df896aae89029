package cluster

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// Finding is one thing that keeps a service from coming up.
type Finding struct {
	Service string
	// Pod is the one whose log says more; empty when none does.
	Pod string
	// What is wrong, in a sentence; Why is the cluster's own word: the condition or event.
	What, Why string
	// Todo says how to go on.
	Todo string
	// kind tells findings of one service apart; confirm is how long one has to last before it is believed.
	kind    string
	confirm time.Duration
}

// How long findings have to last. What heals by itself (a registry that hiccups, a node that is being added, a pod that is
// leaving) gets longer than what cannot.
const (
	atOnce  = 0
	shortly = 3 * time.Second
	patient = 12 * time.Second
	// A disk is attached, and let go by the node of the pod before, within minutes.
	veryPatient = 2 * time.Minute
)

// observation is what the stack's namespace looks like at one time.
type observation struct {
	pods         []*corev1.Pod
	events       []*corev1.Event
	deployments  []*appsv1.Deployment
	replicaSets  []*appsv1.ReplicaSet
	statefulSets []*appsv1.StatefulSet
	jobs         []*batchv1.Job
	claims       []*corev1.PersistentVolumeClaim
	// stack is the name by which commands call the stack.
	stack string
}

// Work is what an update works on: a workload of a service.
type Work struct {
	Service string
	// Kind is deploy, sts or job; empty is all of them.
	Kind string
}

func (w Work) on(kind string) bool { return w.Kind == "" || w.Kind == kind }

// findings are what is wrong with a workload since the time at which an update began to work on it: with its newest
// revision, as an older one may be what the update mends.
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
			if c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse && c.Reason == "ProgressDeadlineExceeded" && len(out) == 0 {
				add(Finding{kind: "deadline", What: "it did not become ready in time", Why: c.Message,
					Todo: "its readiness probe fails: `codexctl logs --stack " + o.stack + " " + service + "` tells why"})
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

// generation counts the changes of the workload's specification; 0 is one that is not there.
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

// only leaves out the other workloads, and Jobs that the newest one takes the place of.
func (o observation) only(work Work, since time.Time) observation {
	if !work.on("deploy") {
		o.deployments = nil
	}
	if !work.on("sts") {
		o.statefulSets = nil
	}
	var newest *batchv1.Job
	for _, j := range o.jobs {
		if work.on("job") && serviceOf(j) == work.Service && (newest == nil || newest.CreationTimestamp.Before(&j.CreationTimestamp)) {
			newest = j
		}
	}
	o.jobs = nil
	// A step about a Job makes a new one: it cannot be changed.
	if newest != nil && (work.Kind == "" || !newest.CreationTimestamp.Time.Before(since.Truncate(time.Second))) {
		o.jobs = []*batchv1.Job{newest}
	}
	return o
}

// current are the pods of the service's newest revision that are not leaving, and those of its Jobs.
func (o observation) current(service string) []*corev1.Pod {
	newest := map[string]bool{} // names of ReplicaSets, StatefulSets' revisions and Jobs
	for _, d := range o.deployments {
		if serviceOf(d) != service || d.Status.ObservedGeneration < d.Generation {
			continue
		}
		for _, r := range o.replicaSets {
			if metav1.IsControlledBy(r, d) && r.Annotations[revisionKey] == d.Annotations[revisionKey] {
				newest[r.Name] = true
			}
		}
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
		if owner != nil && newest[owner.Name] || newest[p.Labels[appsv1.ControllerRevisionHashLabelKey]] {
			out = append(out, p)
		}
	}
	return out
}

// revisionKey is where the Deployment controller numbers a Deployment's revisions.
const revisionKey = "deployment.kubernetes.io/revision"

var pullReasons = map[string]bool{"ErrImagePull": true, "ImagePullBackOff": true, "InvalidImageName": true, "ErrImageNeverPull": true, "RegistryUnavailable": true, "ImageInspectError": true}

func (o observation) podFindings(p *corev1.Pod, since time.Time, add func(Finding)) {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
			o.unschedulable(p, c.Message, add)
			return
		}
	}
	for _, s := range statuses(p) {
		if o.containerFindings(p, s, since, add) {
			return
		}
	}
	// What no status says: mounts and sandboxes that fail are only in the events.
	if p.Status.Phase != corev1.PodPending {
		return
	}
	for _, e := range o.about("Pod", p.Name, since) {
		if e.Type != corev1.EventTypeWarning {
			continue
		}
		f := Finding{Why: e.Reason + ": " + e.Message, confirm: patient}
		switch {
		case e.Reason == "FailedMount":
			if !strings.Contains(e.Message, "not found") { // a disk that another node still holds, say
				f.confirm = veryPatient
			}
			f.kind, f.What, f.Todo = "mount", "a volume or file cannot be mounted", "the event names it; the next `codexctl up "+o.stack+"` goes on when it is there"
		case e.Reason == "FailedCreatePodSandBox" && strings.Contains(e.Message, "RuntimeHandler"), e.Reason == "FailedCreatePodSandBox" && strings.Contains(e.Message, "no runtime for"):
			f.kind, f.What, f.confirm = "runtime", "the node does not know the runtime class", shortly
			f.Todo = "install the runtime on the node, or correct codexcontinue:gpu: {runtimeClass: ...}"
		case e.Reason == "FailedCreatePodSandBox":
			f.kind, f.What, f.Todo = "sandbox", "the node cannot start the pod", "the event says why; it is the node's network or container runtime"
		default:
			continue
		}
		add(f)
		return
	}
}

// containerFindings says whether it found something.
func (o observation) containerFindings(p *corev1.Pod, s corev1.ContainerStatus, since time.Time, add func(Finding)) bool {
	w := s.State.Waiting
	f := Finding{Pod: p.Name}
	if w != nil {
		f.Why = w.Reason + ": " + w.Message
	}
	probe := o.probeKill(p, s, since)
	switch {
	case w != nil && pullReasons[w.Reason]:
		f = o.unpulled(image(p, s.Name), *w)
	case w != nil && (w.Reason == "CreateContainerConfigError" || w.Reason == "CreateContainerError" || w.Reason == "RunContainerError"):
		f.kind, f.What, f.confirm, f.Pod = "create", "the container cannot be started", shortly, ""
		f.Todo = "the message says what is wrong with its image, files or user; correct it and run `codexctl up " + o.stack + "`"
	case probe != "" && !ready(p):
		f.kind, f.What, f.Why = "probe", "its probe fails, so that it is restarted", probe
		f.Todo = "its log says why it does not answer; a slow start needs more time"
	case w != nil && w.Reason == "CrashLoopBackOff", s.State.Terminated != nil && s.State.Terminated.ExitCode != 0 && s.RestartCount >= 1:
		f.kind, f.What, f.Why, f.confirm = "crash", "it crashes", "CrashLoopBackOff: "+crashed(p, s), shortly
		f.Todo = "its log says why; correct it and run `codexctl up " + o.stack + "`"
		if strings.Contains(f.Why, "of memory") {
			f.Todo = fmt.Sprintf("give it more: codexcontinue:services: {%s: {memory: ...}} in the stack's settings", setting(p))
		}
		if ofJob(p) {
			return false // a Job tries again by itself, and says itself when it gives up
		}
	default:
		return false
	}
	add(f)
	return true
}

// probeKill is the event that says that the kubelet restarted the container for its failing probe, with what the probe
// said; empty when there is none.
func (o observation) probeKill(p *corev1.Pod, s corev1.ContainerStatus, since time.Time) string {
	if s.RestartCount == 0 {
		return ""
	}
	killed, said := false, ""
	for _, e := range o.about("Pod", p.Name, since) {
		switch {
		case e.Reason == "Killing" && strings.Contains(e.Message, "Container "+s.Name+" failed") && strings.Contains(e.Message, "probe"):
			killed = true
		case e.Reason == "Unhealthy" && (strings.HasPrefix(e.Message, "Startup probe") || strings.HasPrefix(e.Message, "Liveness probe")):
			said = e.Reason + ": " + e.Message
		}
	}
	if !killed {
		return ""
	}
	return said
}

func image(p *corev1.Pod, container string) string {
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		if c.Name == container {
			return c.Image
		}
	}
	return "?"
}

var (
	missingImage = regexp.MustCompile(`(?i)not found|manifest unknown|does not exist|not present with pull policy`)
	deniedImage  = regexp.MustCompile(`(?i)unauthorized|denied|no basic auth|forbidden|authentication required`)
)

func (o observation) unpulled(image string, w corev1.ContainerStateWaiting) Finding {
	short := strings.TrimPrefix(image, "docker.io/")
	f := Finding{kind: "image", What: "the image " + short + " cannot be pulled", Why: w.Reason + ": " + w.Message, confirm: patient,
		Todo: "check the nodes' way to the registry; without one, `codexctl images load " + o.stack + "` puts the stack's images into the cluster"}
	switch {
	case strings.HasPrefix(short, stacks.Project+"/"):
		f.What, f.confirm = "the image "+short+" is not in the cluster", shortly
		f.Todo = "put it there with `codexctl images load " + o.stack + "`, or name a registry: codexcontinue:registry in the stack's settings"
	case w.Reason == "InvalidImageName", w.Reason == "ErrImageNeverPull":
		f.confirm = atOnce
	case missingImage.MatchString(w.Message):
		f.confirm = shortly
	case deniedImage.MatchString(w.Message):
		f.confirm, f.Todo = shortly, "the registry wants a login: give the nodes, or the namespace's service accounts, a pull secret for it"
	}
	return f
}

func (o observation) unschedulable(p *corev1.Pod, message string, add func(Finding)) {
	// What is about to leave makes room, and an autoscaler that has begun adds a node.
	if slices.ContainsFunc(o.pods, func(x *corev1.Pod) bool { return x.DeletionTimestamp != nil }) {
		return
	}
	scaling := false
	for _, e := range o.about("Pod", p.Name, time.Time{}) {
		switch e.Reason {
		case "TriggeredScaleUp":
			scaling = true
		case "NotTriggerScaleUp":
			scaling = false
		}
	}
	if scaling {
		return
	}
	f := Finding{kind: "schedule", What: "no node has room for it", Why: "Unschedulable: " + message, confirm: 2 * shortly}
	switch {
	case gpuMissing.MatchString(message):
		f.What = "no node has the GPU that it asks for"
		f.Todo = "add such a node and its device plugin, correct codexcontinue:gpu (resource, nodeSelector, tolerations), or take it out; `codexctl doctor " + o.stack + "` lists what the nodes have"
	case strings.Contains(message, "unbound immediate PersistentVolumeClaims"):
		f.What, f.confirm = "its volume is not there", patient
		f.Todo = "see `kubectl -n " + p.Namespace + " describe pvc`"
	case strings.Contains(message, "Insufficient"):
		f.Todo = fmt.Sprintf("add a node, free one, or ask for less: codexcontinue:services: {%s: {cpu: ..., memory: ...}}", setting(p))
	default:
		f.What = "no node may run it"
		f.Todo = "the message says why: taints, selectors or volumes that are elsewhere"
	}
	add(f)
}

// setting names the service whose settings are what the pod asks for: the model's Job is of ml, with an Ollama beside it
// where the model is shared.
func setting(p *corev1.Pod) string {
	service := serviceOf(p)
	if service != stacks.ModelJob {
		return service
	}
	if len(p.Spec.InitContainers) > 0 {
		return stacks.Ollama
	}
	return stacks.ML
}

var gpuMissing = regexp.MustCompile(`Insufficient [a-z0-9.-]+/`)

// claimFindings looks at the claims of the service that get no volume: those that its pods mount, and those that are made from
// a StatefulSet's templates and outlive it, as long as it is there.
func (o observation) claimFindings(service string, since time.Time, add func(Finding)) {
	templates := slices.ContainsFunc(o.statefulSets, func(s *appsv1.StatefulSet) bool {
		return serviceOf(s) == service && len(s.Spec.VolumeClaimTemplates) > 0
	})
	for _, c := range o.claims {
		mine := serviceOf(c) == service && templates || o.mounts(service, c.Name)
		if c.Status.Phase != corev1.ClaimPending || c.DeletionTimestamp != nil || !mine {
			continue
		}
		for _, e := range o.about("PersistentVolumeClaim", c.Name, since) {
			f := Finding{kind: "claim", Why: e.Reason + ": " + e.Message, confirm: shortly}
			class := "the default one"
			if c.Spec.StorageClassName != nil {
				class = *c.Spec.StorageClassName
			}
			switch {
			case e.Reason == "ProvisioningFailed" && strings.Contains(e.Message, "not found"):
				f.What = fmt.Sprintf("the cluster has no storage class %s for the volume claim %s", class, c.Name)
				f.Todo = "correct codexcontinue:volumes: {VOLUME: {class: ...}}: `kubectl get storageclass` lists those that there are"
			case e.Reason == "FailedBinding":
				f.What = "the cluster has no storage for the volume claim " + c.Name
				f.Todo = "name a storage class: codexcontinue:volumes: {VOLUME: {class: ...}}; `kubectl get storageclass` lists them"
			case e.Reason == "ProvisioningFailed":
				f.What, f.confirm = "no storage can be made for the volume claim "+c.Name, patient
				f.Todo = "the event says why: the storage class " + class + " or its provisioner"
			default:
				continue
			}
			add(f)
			break
		}
	}
}

// mounts says whether a pod of the service mounts the claim: one that replicas share is no service's own.
func (o observation) mounts(service, claim string) bool {
	return slices.ContainsFunc(o.current(service), func(p *corev1.Pod) bool {
		return slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool {
			return v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == claim
		})
	})
}

// creationFindings looks at what keeps the controllers from making pods and claims.
func (o observation) creationFindings(service string, since time.Time, add func(Finding)) {
	try := func(reason, message string) {
		if f, ok := o.uncreated(service, reason, message); ok {
			add(f)
		}
	}
	for _, d := range o.deployments {
		if serviceOf(d) != service || d.Status.ObservedGeneration < d.Generation {
			continue
		}
		for _, r := range o.replicaSets {
			if !metav1.IsControlledBy(r, d) || r.Annotations[revisionKey] != d.Annotations[revisionKey] {
				continue
			}
			for _, c := range r.Status.Conditions {
				if c.Type == appsv1.ReplicaSetReplicaFailure && c.Status == corev1.ConditionTrue {
					try(c.Reason, c.Message)
				}
			}
		}
	}
	for _, s := range o.statefulSets {
		if serviceOf(s) == service && s.Spec.Replicas != nil && s.Status.Replicas < *s.Spec.Replicas {
			o.lastFailedCreate("StatefulSet", s.Name, since, try)
		}
	}
	for _, j := range o.jobs {
		if serviceOf(j) == service && j.Status.Active == 0 && !finished(j) {
			o.lastFailedCreate("Job", j.Name, since, try)
		}
	}
}

func (o observation) lastFailedCreate(kind, name string, since time.Time, try func(reason, message string)) {
	for _, e := range slices.Backward(o.about(kind, name, since)) {
		if e.Reason == "FailedCreate" {
			try(e.Reason, e.Message)
			return
		}
	}
}

var (
	quotaRule    = regexp.MustCompile(`exceeded quota: (\S+), requested: (\S+), used: (\S+), limited: (\S+)`)
	securityRule = regexp.MustCompile(`violates PodSecurity "([^"]+)": (.*)`)
	webhookRule  = regexp.MustCompile(`admission webhook "([^"]+)" denied the request: (.*)`)
)

// uncreated says why the API server takes no pod of the service.
func (o observation) uncreated(service, reason, message string) (Finding, bool) {
	f := Finding{kind: "admission", Why: reason + ": " + message, confirm: shortly}
	again := "; then run `codexctl up " + o.stack + "`"
	switch {
	case quotaRule.MatchString(message):
		m := quotaRule.FindStringSubmatch(message)
		if slices.ContainsFunc(o.pods, func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil }) {
			return f, false // what is leaving gives its share back
		}
		f.What = fmt.Sprintf("the namespace's quota %s is exceeded: it asks for %s, %s is used of %s", m[1], m[2], m[3], m[4])
		f.Todo = fmt.Sprintf("raise the quota, or ask for less: codexcontinue:services: {%s: {cpu: ..., memory: ..., replicas: ...}}", service) + again
	case securityRule.MatchString(message):
		m := securityRule.FindStringSubmatch(message)
		f.What = fmt.Sprintf("the namespace's Pod Security level %s refuses it: %s", m[1], m[2])
		f.Todo = "correct the service's security, or the namespace's level" + again
	case webhookRule.MatchString(message):
		m := webhookRule.FindStringSubmatch(message)
		f.What = fmt.Sprintf("the cluster's policy %s refuses it: %s", m[1], m[2])
		f.Todo = "ask the cluster's administrator, or correct what it refuses" + again
	case strings.Contains(message, "error looking up service account"):
		f.What, f.confirm, f.Todo = "its service account is not there", patient, "run `codexctl up --refresh "+o.stack+"`"
	case strings.Contains(message, "status unknown for quota"):
		// The cluster takes nothing until it has counted what is there, and counts a new quota within a second.
		f.What, f.confirm, f.Todo = "the cluster does not count what is used of the namespace's quota", patient, "look after its controller manager"+again
	case strings.Contains(message, " is forbidden: "):
		_, why, _ := strings.Cut(message, " is forbidden: ")
		f.What, f.Todo = "the cluster refuses it: "+why, "ask the cluster's administrator, or correct what it refuses"+again
	default:
		f.What, f.confirm, f.Todo = "its pods cannot be made", patient, "the event says why"+again
	}
	return f, true
}

func finished(j *batchv1.Job) bool {
	return slices.ContainsFunc(j.Status.Conditions, func(c batchv1.JobCondition) bool {
		return c.Status == corev1.ConditionTrue && (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed)
	})
}

func (o observation) jobFindings(j *batchv1.Job, add func(Finding)) {
	for _, c := range j.Status.Conditions {
		if c.Type != batchv1.JobFailed || c.Status != corev1.ConditionTrue {
			continue
		}
		f := Finding{kind: "job", What: "the job " + j.Name + " failed", Why: c.Reason + ": " + c.Message,
			Todo: "its log says why; correct it and run `codexctl up " + o.stack + "`, which tries again"}
		for _, p := range o.pods {
			if metav1.IsControlledBy(p, j) {
				f.Pod = p.Name
			}
		}
		add(f)
	}
}

// about are the events of an object since a time, the oldest first.
func (o observation) about(kind, name string, since time.Time) []*corev1.Event {
	var out []*corev1.Event
	for _, e := range o.events {
		// Events have whole seconds.
		if e.InvolvedObject.Kind == kind && e.InvolvedObject.Name == name && !when(e).Before(since.Truncate(time.Second)) {
			out = append(out, e)
		}
	}
	slices.SortStableFunc(out, func(a, b *corev1.Event) int { return when(a).Compare(when(b)) })
	return out
}

// when is the last time that the event happened: components fill in different fields.
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

// judge believes findings that last.
type judge struct {
	// first is when a finding was seen first of the times in a row that it was.
	first map[string]time.Time
}

// decide returns the findings that have lasted long enough; none when nothing is decided.
func (j *judge) decide(findings []Finding, now time.Time) []Finding {
	seen := map[string]time.Time{}
	var sure []Finding
	for _, f := range findings {
		key := f.Service + "\x00" + f.kind
		at, ok := j.first[key]
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
	j.first = seen
	return sure
}
