package cluster

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
)

var pullReasons = map[string]bool{
	"ErrImagePull":        true,
	"ImagePullBackOff":    true,
	"InvalidImageName":    true,
	"ErrImageNeverPull":   true,
	"RegistryUnavailable": true,
	"ImageInspectError":   true,
}

// podFindings adds what keeps a pod from becoming ready.
func (o observation) podFindings(p *corev1.Pod, since time.Time, add func(Finding)) {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse &&
			c.Reason == corev1.PodReasonUnschedulable {
			o.unschedulable(p, c.Message, add)
			return
		}
	}

	for _, s := range statuses(p) {
		if o.containerFindings(p, s, since, add) {
			return
		}
	}

	// Mounts and sandboxes that fail show only in the events.
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
			f.kind, f.What = "mount", "a volume or file cannot be mounted"
			f.Todo = "the event names it; the next `codexctl up " + o.stack +
				"` goes on when it is there"

			// Anything but a missing object may be a disk that another node still holds.
			if !strings.Contains(e.Message, "not found") {
				f.confirm = veryPatient
			}
		case e.Reason == "FailedCreatePodSandBox" && strings.Contains(e.Message, "RuntimeHandler"),
			e.Reason == "FailedCreatePodSandBox" && strings.Contains(e.Message, "no runtime for"):
			f.kind, f.What, f.confirm = "runtime", "the node does not know the runtime class", shortly
			f.Todo = "install the runtime on the node, or correct codexcontinue:gpu: " +
				"{runtimeClass: ...}"
		case e.Reason == "FailedCreatePodSandBox":
			f.kind, f.What = "sandbox", "the node cannot start the pod"
			f.Todo = "the event says why; it is the node's network or container runtime"
		default:
			continue
		}

		add(f)
		return
	}
}

// containerFindings adds what is wrong with a container of the pod, and reports
// whether it found anything.
func (o observation) containerFindings(
	p *corev1.Pod, s corev1.ContainerStatus, since time.Time, add func(Finding),
) bool {
	w := s.State.Waiting
	f := Finding{Pod: p.Name}
	if w != nil {
		f.Why = w.Reason + ": " + w.Message
	}

	probe := o.probeKill(p, s, since)
	switch {
	case w != nil && pullReasons[w.Reason]:
		f = o.pullFinding(image(p, s.Name), *w)
	case w != nil && (w.Reason == "CreateContainerConfigError" ||
		w.Reason == "CreateContainerError" || w.Reason == "RunContainerError"):
		f.kind, f.What, f.confirm, f.Pod = "create", "the container cannot be started", shortly, ""
		f.Todo = "the message says what is wrong with its image, files or user; correct it and " +
			"run `codexctl up " + o.stack + "`"
	case probe != "" && !ready(p):
		f.kind, f.What, f.Why = "probe", "its probe fails, so that it is restarted", probe
		f.Todo = "its log says why it does not answer; a slow start needs more time"
	case w != nil && w.Reason == "CrashLoopBackOff",
		s.State.Terminated != nil && s.State.Terminated.ExitCode != 0 && s.RestartCount >= 1:
		f.kind, f.What, f.confirm = "crash", "it crashes", shortly
		f.Why = "CrashLoopBackOff: " + crashed(p, s)
		f.Todo = "its log says why; correct it and run `codexctl up " + o.stack + "`"
		if strings.Contains(f.Why, "of memory") {
			f.Todo = running.MoreMemory(setting(p))
		}

		if ofJob(p) {
			return false // a Job tries again, and fails itself when it gives up
		}
	default:
		return false
	}

	add(f)
	return true
}

// probeKill returns what the probe reported for which the kubelet restarted the
// container, or "" if it did not.
func (o observation) probeKill(p *corev1.Pod, s corev1.ContainerStatus, since time.Time) string {
	if s.RestartCount == 0 {
		return ""
	}

	killed, said := false, ""
	for _, e := range o.about("Pod", p.Name, since) {
		switch {
		case e.Reason == "Killing" && strings.Contains(e.Message, "Container "+s.Name+" failed") &&
			strings.Contains(e.Message, "probe"):
			killed = true
		case e.Reason == "Unhealthy" && (strings.HasPrefix(e.Message, "Startup probe") ||
			strings.HasPrefix(e.Message, "Liveness probe")):
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

// pullFinding returns why the image cannot be pulled.
func (o observation) pullFinding(image string, w corev1.ContainerStateWaiting) Finding {
	short := strings.TrimPrefix(image, "docker.io/")
	f := Finding{
		kind:    "image",
		What:    "the image " + short + " cannot be pulled",
		Why:     w.Reason + ": " + w.Message,
		confirm: patient,
		Todo: "check the nodes' way to the registry; without one, `codexctl images load " +
			o.stack + "` puts the stack's images into the cluster",
	}

	switch {
	case strings.HasPrefix(short, stacks.Project+"/"):
		f.What, f.confirm = "the image "+short+" is not in the cluster", shortly
		f.Todo = "put it there with `codexctl images load " + o.stack +
			"`, or name a registry: codexcontinue:registry in the stack's settings"
	case w.Reason == "InvalidImageName", w.Reason == "ErrImageNeverPull":
		f.confirm = atOnce
	case missingImage.MatchString(w.Message):
		f.confirm = shortly
	case deniedImage.MatchString(w.Message):
		f.confirm, f.Todo = shortly, "the registry wants a login: give the nodes, or the "+
			"namespace's service accounts, a pull secret for it"
	}

	return f
}

// unschedulable adds why no node takes the pod, unless room is about to come.
func (o observation) unschedulable(p *corev1.Pod, message string, add func(Finding)) {
	// A pod that is leaving makes room, and an autoscaler that has begun adds a node.
	if o.leaving() {
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

	f := Finding{
		kind:    "schedule",
		What:    "no node has room for it",
		Why:     "Unschedulable: " + message,
		confirm: 2 * shortly,
	}

	switch {
	case gpuMissing.MatchString(message):
		f.What = "no node has the GPU that it asks for"
		f.Todo = "add such a node and its device plugin, correct codexcontinue:gpu (resource, " +
			"nodeSelector, tolerations), or take it out; `codexctl doctor " + o.stack + "` lists what the nodes have"
	case strings.Contains(message, "unbound immediate PersistentVolumeClaims"):
		f.What, f.confirm = "its volume is not there", patient
		f.Todo = "see `kubectl -n " + p.Namespace + " describe pvc`"
	case strings.Contains(message, "Insufficient"):
		f.Todo = fmt.Sprintf("add a node, free one, or ask for less: codexcontinue:services: "+
			"{%s: {cpu: ..., memory: ...}}",
			setting(p))
	default:
		f.What = "no node may run it"
		f.Todo = "the message says why: taints, selectors or volumes that are elsewhere"
	}

	add(f)
}

// setting returns the service in whose settings the pod's resources are. The model's Job is of ml,
// or of Ollama where the model is shared; another Job's container has the name of its service.
func setting(p *corev1.Pod) string {
	service := serviceOf(p)
	if service != stacks.ModelJob && ofJob(p) {
		return p.Spec.Containers[0].Name
	}
	if service != stacks.ModelJob {
		return service
	}
	if len(p.Spec.InitContainers) > 0 {
		return stacks.Ollama
	}

	return stacks.ML
}

var gpuMissing = regexp.MustCompile(`Insufficient [a-z0-9.-]+/`)
