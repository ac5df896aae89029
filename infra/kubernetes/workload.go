package kubernetes

import (
	"slices"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Kinds of workloads: a service with storage has pods with names of their own and a claim each.
const (
	kindDeployment  = "Deployment"
	kindStatefulSet = "StatefulSet"
)

// revisions is how many old revisions are kept for `kubectl rollout undo`.
const revisions = 3

// schedulingTime is what a pod may need before its container starts: to find a node, a
// volume and the image.
const schedulingTime = 3 * time.Minute

// timeouts bound how long `up` waits for the workload: until its pods have started, in the steps of
// its rolling update. The first step may need all the time that a pod has; a later one starts on a
// cluster where that went well. A pod that cannot start is never waited for longer, since the next
// step begins when it has.
func (p plan) timeouts() *pulumi.CustomTimeouts {
	start := p.StartTimeout + schedulingTime
	stop := p.drain() + p.StopGrace
	return &pulumi.CustomTimeouts{
		Create: start.String(),
		Update: p.rolloutTime().String(),
		Delete: (stop + time.Minute).String(),
	}
}

// rolloutTime returns how long a rolling update of the service may take, once what
// it depends on is ready.
func (p plan) rolloutTime() time.Duration {
	stop := p.drain() + p.StopGrace
	update, later := p.StartTimeout+schedulingTime, schedulingTime
	steps := (p.MaxReplicas() + p.step() - 1) / p.step()
	if p.surge() == 0 { // each pod goes before its successor comes
		update, later = update+stop, later+stop
	}
	return update + time.Duration(steps-1)*later
}

// progressTime returns after how long without progress Kubernetes calls the service's rollout
// stuck. Pods start together, so those that are not ready without the model are given the
// time that it may take.
func (r *renderer) progressTime(name string) time.Duration {
	took := r.stack.Service(name).StartTimeout + schedulingTime
	if r.waitsForModel(name) {
		took += modelDeadline
	}
	return took
}

// waitsForModel reports whether the service is the client of the model, or depends on it.
func (r *renderer) waitsForModel(name string) bool {
	return r.model != nil && (r.model.client.Name == name ||
		slices.ContainsFunc(r.stack.Service(name).DependsOn, r.waitsForModel))
}

// addWorkload makes the service's pods. That they are ready is waited for once, at the end (await).
func (r *renderer) addWorkload(p plan, mounted volumes, after []*Object) *Object {
	o := &Object{
		Resource: p.Name, Component: p.Name, After: after, Timeouts: p.timeouts(),
		Annotations: map[string]string{annotationWaitFor: waitForController},
	}
	if p.Autoscale != nil {
		o.Begins = []string{"spec.replicas"}
	}

	meta, pod := r.meta(p.Name, r.labelsOf(p.Name)), r.podTemplate(p, mounted)
	replicas := new(int32(p.Replicas))

	if p.kind == kindStatefulSet {
		spec := appsv1.StatefulSetSpec{
			Replicas:             replicas,
			Selector:             r.selector(p.Name),
			ServiceName:          p.Name,
			Template:             pod,
			RevisionHistoryLimit: new(int32(revisions)),
			// Replicas do not need each other to start, and a pod that cannot start must not
			// block its own repair.
			PodManagementPolicy: appsv1.ParallelPodManagement,
			UpdateStrategy: appsv1.StatefulSetUpdateStrategy{
				Type: appsv1.RollingUpdateStatefulSetStrategyType,
			},
		}
		if len(mounted.templates) > 0 {
			spec.VolumeClaimTemplates = mounted.templates
			spec.PersistentVolumeClaimRetentionPolicy = r.retention(p)
		}

		o.API = &appsv1.StatefulSet{ObjectMeta: meta, Spec: spec}
		return r.add(o)
	}

	o.API = &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{
		Replicas: replicas, Selector: r.selector(p.Name), Template: pod,
		RevisionHistoryLimit:    new(int32(revisions)),
		ProgressDeadlineSeconds: new(int32(seconds(r.progressTime(p.Name)))),
		Strategy: appsv1.DeploymentStrategy{
			Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: rolling(p),
		},
	}}

	return r.add(o)
}

// step returns how many pods a rolling update replaces at once: a quarter of a Deployment's, one of
// a StatefulSet's, or where there may be no device for one more.
func (p plan) step() int {
	if p.kind == kindStatefulSet || p.GPU != nil {
		return 1
	}
	return (p.MaxReplicas() + 3) / 4
}

// surge returns how many pods more than its replicas a rolling update of the service may run.
func (p plan) surge() int {
	if p.kind == kindStatefulSet || p.GPU != nil {
		return 0
	}
	return p.step()
}

// rolling has new pods ready before old ones go, or, where there is no room for
// one more, one missing.
func rolling(p plan) *appsv1.RollingUpdateDeployment {
	missing := 0
	if p.surge() == 0 {
		missing = p.step()
	}
	return &appsv1.RollingUpdateDeployment{
		MaxSurge: new(intstr.FromInt(p.surge())), MaxUnavailable: new(intstr.FromInt(missing)),
	}
}
