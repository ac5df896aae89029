package kubernetes

import (
	"slices"
	"time"

	appsv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/apps/v1"
	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Kinds of workloads: a service with storage has pods with names of their own and a claim each.
const (
	kindDeployment  = "Deployment"
	kindStatefulSet = "StatefulSet"
)

// revisions is how many old revisions are kept for `kubectl rollout undo`.
const revisions = 3

// schedulingTime is what a pod may need before its container starts: to find a node, a volume and the image.
const schedulingTime = 3 * time.Minute

// timeouts bound how long `up` waits for the workload: until its pods have started, in the steps of its rolling update. The
// first step may need all the time that a pod has; a later one starts on a cluster where that went well. A pod that cannot
// start is never waited for longer, since the next step begins when it has.
func (p plan) timeouts() *pulumi.CustomTimeouts {
	start := p.StartTimeout + schedulingTime
	stop := p.drain() + p.StopGrace
	return &pulumi.CustomTimeouts{Create: start.String(), Update: p.rolloutTime().String(), Delete: (stop + time.Minute).String()}
}

// rolloutTime is how long a rolling update of the service may take, once what it depends on is ready.
func (p plan) rolloutTime() time.Duration {
	stop := p.drain() + p.StopGrace
	update, later := p.StartTimeout+schedulingTime, schedulingTime
	steps := (p.most + p.step() - 1) / p.step()
	if p.surge() == 0 { // each pod goes before its successor comes
		update, later = update+stop, later+stop
	}
	return update + time.Duration(steps-1)*later
}

// progressTime is after how long without progress Kubernetes calls the service's rollout stuck. Pods start together, so those
// that are not ready without the model are given the time that it may take.
func (d *deployment) progressTime(name string) time.Duration {
	took := d.stack.Service(name).StartTimeout + schedulingTime
	if d.waitsForModel(name) {
		took += modelDeadline
	}
	return took
}

// waitsForModel reports whether the service is the client of the model, or depends on it.
func (d *deployment) waitsForModel(name string) bool {
	return d.model != nil && (d.model.client.Name == name || slices.ContainsFunc(d.stack.Service(name).DependsOn, d.waitsForModel))
}

// addWorkload makes the service's pods. That they are ready is waited for once, at the end (await).
func (d *deployment) addWorkload(p plan, template corev1.PodTemplateSpecArgs, claims corev1.PersistentVolumeClaimTypeArray, parent pulumi.Resource, after []pulumi.Resource) (pulumi.Resource, error) {
	sel := labelSelector(selector(d.stack, p.Name))
	meta := d.meta(p.Name, workloadLabels(d.stack, p.Name), map[string]string{annotationWaitFor: waitForController})
	opts := []pulumi.ResourceOption{
		pulumi.Parent(parent), pulumi.Provider(d.cluster), pulumi.DependsOn(after), pulumi.Timeouts(p.timeouts()),
	}
	// With an autoscaler the number of replicas is its own: the field is not the stack's to set.
	var replicas pulumi.IntPtrInput
	if p.Autoscale == nil {
		replicas = pulumi.Int(p.Replicas)
	}
	if p.kind == kindStatefulSet {
		args := &appsv1.StatefulSetArgs{Metadata: meta, Spec: appsv1.StatefulSetSpecArgs{
			Replicas: replicas, Selector: sel, ServiceName: pulumi.String(p.Name), Template: template,
			RevisionHistoryLimit: pulumi.Int(revisions),
			// Replicas do not need each other to start, and a pod that cannot start must not block its own repair.
			PodManagementPolicy: pulumi.String("Parallel"),
			UpdateStrategy:      appsv1.StatefulSetUpdateStrategyArgs{Type: pulumi.String("RollingUpdate")},
		}}
		if len(claims) > 0 {
			spec := args.Spec.(appsv1.StatefulSetSpecArgs)
			spec.VolumeClaimTemplates = claims
			spec.PersistentVolumeClaimRetentionPolicy = d.retention(p)
			args.Spec = spec
		}
		return appsv1.NewStatefulSet(d.ctx, p.Name, args, opts...)
	}
	return appsv1.NewDeployment(d.ctx, p.Name, &appsv1.DeploymentArgs{Metadata: meta, Spec: appsv1.DeploymentSpecArgs{
		Replicas: replicas, Selector: sel, Template: template,
		RevisionHistoryLimit:    pulumi.Int(revisions),
		ProgressDeadlineSeconds: pulumi.Int(seconds(d.progressTime(p.Name))),
		Strategy: appsv1.DeploymentStrategyArgs{
			Type:          pulumi.String("RollingUpdate"),
			RollingUpdate: rolling(p),
		},
	}}, opts...)
}

// step is how many pods a rolling update replaces at once: a quarter of a Deployment's, one of a StatefulSet's, or where
// there may be no device for one more.
func (p plan) step() int {
	if p.kind == kindStatefulSet || p.GPU != nil {
		return 1
	}
	return (p.most + 3) / 4
}

// surge is how many pods more than its replicas a rolling update of the service may run.
func (p plan) surge() int {
	if p.kind == kindStatefulSet || p.GPU != nil {
		return 0
	}
	return p.step()
}

// rolling has new pods ready before old ones go, or, where there is no room for one more, one missing.
func rolling(p plan) appsv1.RollingUpdateDeploymentArgs {
	missing := 0
	if p.surge() == 0 {
		missing = p.step()
	}
	return appsv1.RollingUpdateDeploymentArgs{MaxSurge: pulumi.Int(p.surge()), MaxUnavailable: pulumi.Int(missing)}
}
