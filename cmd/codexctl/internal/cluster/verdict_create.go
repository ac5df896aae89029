package cluster

import (
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// claimFindings adds the claims of the service that get no volume: those that its pods mount, and
// those that are made from a StatefulSet's templates, as long as it exists.
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
				f.What = fmt.Sprintf("the cluster has no storage class %s for the volume claim %s",
					class, c.Name)
				f.Todo = "correct codexcontinue:volumes: {VOLUME: {class: ...}}: `kubectl get " +
					"storageclass` lists those that there are"
			case e.Reason == "FailedBinding":
				f.What = "the cluster has no storage for the volume claim " + c.Name
				f.Todo = "name a storage class: codexcontinue:volumes: {VOLUME: {class: ...}}; " +
					"`kubectl get storageclass` lists them"
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

// mounts reports whether a pod of the service mounts the claim. A claim that several services share
// belongs to none of them.
func (o observation) mounts(service, claim string) bool {
	return slices.ContainsFunc(o.current(service), func(p *corev1.Pod) bool {
		return slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool {
			return v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == claim
		})
	})
}

// creationFindings adds what keeps the controllers from making pods and claims.
func (o observation) creationFindings(service string, since time.Time, add func(Finding)) {
	try := func(reason, message string) {
		if f, ok := o.admissionFinding(service, reason, message); ok {
			add(f)
		}
	}

	for _, r := range o.newestSets(service) {
		for _, c := range r.Status.Conditions {
			if c.Type == appsv1.ReplicaSetReplicaFailure && c.Status == corev1.ConditionTrue {
				try(c.Reason, c.Message)
			}
		}
	}

	for _, s := range o.statefulSets {
		if serviceOf(s) == service && s.Spec.Replicas != nil &&
			s.Status.Replicas < *s.Spec.Replicas {
			o.lastFailedCreate("StatefulSet", s.Name, since, try)
		}
	}

	for _, j := range o.jobs {
		if serviceOf(j) == service && j.Status.Active == 0 && !finished(j) {
			o.lastFailedCreate("Job", j.Name, since, try)
		}
	}
}

func (o observation) lastFailedCreate(
	kind, name string, since time.Time, try func(reason, message string),
) {
	for _, e := range slices.Backward(o.about(kind, name, since)) {
		if e.Reason == "FailedCreate" {
			try(e.Reason, e.Message)
			return
		}
	}
}

// admissionFinding returns why the API server accepts no pod of the service.
func (o observation) admissionFinding(service, reason, message string) (Finding, bool) {
	f := Finding{kind: "admission", Why: reason + ": " + message, confirm: shortly}
	again := "; then run `codexctl up " + o.stack + "`"
	what, todo := Refusal(message, o.stack, service)
	switch {
	case overQuota.MatchString(message) && o.leaving():
		return f, false // a pod that is leaving frees its share
	case what != "":
		f.What, f.Todo = what, todo+again
	case strings.Contains(message, "error looking up service account"):
		f.What, f.confirm = "its service account is not there", patient
		f.Todo = "run `codexctl up --refresh " + o.stack + "`"
	case strings.Contains(message, "status unknown for quota"):
		// The cluster accepts nothing until it has counted what is there. It counts a new
		// quota within a second.
		f.What = "the cluster does not count what is used of the namespace's quota"
		f.confirm, f.Todo = patient, "look after its controller manager"+again
	case strings.Contains(message, " is forbidden: "):
		_, why, _ := strings.Cut(message, " is forbidden: ")
		f.What = "the cluster refuses it: " + why
		f.Todo = "ask the cluster's administrator, or correct what it refuses" + again
	default:
		f.What, f.confirm, f.Todo = "its pods cannot be made", patient, "the event says why"+again
	}

	return f, true
}

func finished(j *batchv1.Job) bool {
	return slices.ContainsFunc(j.Status.Conditions, func(c batchv1.JobCondition) bool {
		return c.Status == corev1.ConditionTrue &&
			(c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed)
	})
}

func (o observation) jobFindings(j *batchv1.Job, add func(Finding)) {
	for _, c := range j.Status.Conditions {
		if c.Type != batchv1.JobFailed || c.Status != corev1.ConditionTrue {
			continue
		}

		f := Finding{
			kind: "job",
			What: "the job " + j.Name + " failed",
			Why:  c.Reason + ": " + c.Message,
			Todo: "its log says why; correct it and run `codexctl up " + o.stack + "`, which tries again",
		}

		for _, p := range o.pods {
			if metav1.IsControlledBy(p, j) {
				f.Pod = p.Name
			}
		}

		add(f)
	}
}
