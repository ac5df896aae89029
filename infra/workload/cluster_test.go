package workload_test

import (
	"encoding/json"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/kubernetes"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// resourceOf is the object as a plan has it.
func resourceOf(t *testing.T, o runtime.Object) plan.Resource {
	t.Helper()
	if _, raw := o.(*unstructured.Unstructured); !raw {
		kinds, _, err := kubernetes.Scheme().ObjectKinds(o)
		if err != nil {
			t.Fatal(err)
		}
		o.GetObjectKind().SetGroupVersionKind(kinds[0])
	}
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	kind := o.GetObjectKind().GroupVersionKind().Kind
	r := plan.Resource{Name: "resource", Type: "kubernetes:" + kind}
	if err := json.Unmarshal(text, &r.Inputs); err != nil {
		t.Fatal(err)
	}
	return r
}

// onCluster reads a plan of these objects.
func onCluster(t *testing.T, objects ...runtime.Object) workload.View {
	t.Helper()
	var resources []plan.Resource
	for _, o := range objects {
		resources = append(resources, resourceOf(t, o))
	}
	return read(t, resources...)
}

func read(t *testing.T, resources ...plan.Resource) workload.View {
	t.Helper()
	view, err := workload.Of(plan.Document{
		Stack: "prod", Target: stacks.Kubernetes, Resources: resources,
	})
	if err != nil {
		t.Fatal(err)
	}
	return view
}

func named(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }

// deployment is one of a single container, of the service backend.
func deployment() *appsv1.Deployment {
	d := &appsv1.Deployment{ObjectMeta: named("web")}
	d.Spec.Template.Labels = map[string]string{stacks.LabelService: "backend"}
	d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "main", Image: "busybox:1"}}
	return d
}

// TestContainerOfACluster reads what a pod can say of its container.
func TestContainerOfACluster(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*corev1.PodSpec, *corev1.Container)
		want   func(*workload.Container)
	}{
		"nothing": {func(*corev1.PodSpec, *corev1.Container) {}, func(*workload.Container) {}},
		"built here": {
			func(_ *corev1.PodSpec, c *corev1.Container) { c.Image = "codexcontinue/backend:1" },
			func(c *workload.Container) { c.Image, c.Built = "codexcontinue/backend:1", true },
		},
		"a command": {
			func(_ *corev1.PodSpec, c *corev1.Container) {
				c.Command, c.Args = []string{"a"}, []string{"b", plan.Secret}
			},
			func(c *workload.Container) { c.Command = []string{"a", "b", plan.Secret} },
		},
		"variables": {
			func(_ *corev1.PodSpec, c *corev1.Container) {
				c.Env = []corev1.EnvVar{
					{Name: "A", Value: "1"}, {Name: "B", Value: plan.Secret},
					{Name: "C", ValueFrom: &corev1.EnvVarSource{
						SecretKeyRef: &corev1.SecretKeySelector{Key: "k"},
					}},
					{Name: "D", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{}}},
				}
				c.EnvFrom = []corev1.EnvFromSource{
					{ConfigMapRef: &corev1.ConfigMapEnvSource{}},
					{SecretRef: &corev1.SecretEnvSource{
						LocalObjectReference: corev1.LocalObjectReference{Name: "s"},
					}},
				}
			},
			func(c *workload.Container) {
				c.Env = map[string]string{
					"A": "1", "B": plan.Secret, "C": plan.Secret, "D": "",
					"everything of the secret s": plan.Secret,
				}
			},
		},
		"limits": {
			func(_ *corev1.PodSpec, c *corev1.Container) {
				c.Resources.Limits = corev1.ResourceList{
					"cpu": resource.MustParse("1500m"), "memory": resource.MustParse("1Gi"),
					"nvidia.com/gpu": resource.MustParse("2"),
				}
			},
			func(c *workload.Container) {
				c.CPU, c.Memory, c.GPU = 1500, 1<<30, "nvidia.com/gpu 2"
				c.RequestedCPU, c.RequestedMemory = 1500, 1<<30 // a cluster's default
			},
		},
		"requests": {
			func(_ *corev1.PodSpec, c *corev1.Container) {
				c.Resources.Limits = corev1.ResourceList{
					"cpu": resource.MustParse("1"), "memory": resource.MustParse("1Gi"),
				}
				c.Resources.Requests = corev1.ResourceList{
					"cpu": resource.MustParse("0"), "memory": resource.MustParse("8Mi"),
				}
			},
			func(c *workload.Container) {
				c.CPU, c.Memory, c.RequestedMemory = 1000, 1<<30, 8<<20
			},
		},
		"secured by itself": {
			func(_ *corev1.PodSpec, c *corev1.Container) {
				c.SecurityContext = &corev1.SecurityContext{
					RunAsUser: new(int64(7)), RunAsGroup: new(int64(8)), ReadOnlyRootFilesystem: new(true),
					Privileged: new(true), AllowPrivilegeEscalation: new(false),
					Capabilities: &corev1.Capabilities{
						Drop: []corev1.Capability{"B", "A"}, Add: []corev1.Capability{"SYS_ADMIN", "CAP_CHOWN"},
					},
					SeccompProfile:  &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
					AppArmorProfile: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined},
				}
			},
			func(c *workload.Container) {
				c.User, c.ReadOnlyRoot, c.Privileged, c.NewPrivileges = "7:8", true, true, false
				c.DroppedCapabilities, c.AddedCapabilities = []string{"A", "B"}, []string{"CHOWN", "SYS_ADMIN"}
				c.Unconfined = []string{"apparmor"}
			},
		},
		"secured by the negative": {
			func(_ *corev1.PodSpec, c *corev1.Container) {
				c.SecurityContext = &corev1.SecurityContext{
					RunAsUser: new(int64(7)), ReadOnlyRootFilesystem: new(false), Privileged: new(false),
					AllowPrivilegeEscalation: new(true),
					SeccompProfile: &corev1.SeccompProfile{
						Type: corev1.SeccompProfileTypeUnconfined,
					},
					AppArmorProfile: &corev1.AppArmorProfile{
						Type: corev1.AppArmorProfileTypeRuntimeDefault,
					},
				}
			},
			func(c *workload.Container) { c.User = "7" },
		},
		"secured by its pod": {
			func(p *corev1.PodSpec, _ *corev1.Container) {
				p.SecurityContext = &corev1.PodSecurityContext{
					RunAsUser: new(int64(7)), RunAsGroup: new(int64(8)),
					SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost},
				}
			},
			func(c *workload.Container) { c.User, c.Unconfined = "7:8", nil },
		},
		"a group without a user": {
			func(p *corev1.PodSpec, _ *corev1.Container) {
				p.SecurityContext = &corev1.PodSecurityContext{RunAsGroup: new(int64(8))}
			},
			func(*workload.Container) {},
		},
		"a command as its check": {
			func(_ *corev1.PodSpec, c *corev1.Container) {
				c.LivenessProbe = &corev1.Probe{}
				c.LivenessProbe.Exec = &corev1.ExecAction{Command: []string{"ok", plan.Secret}}
			},
			func(c *workload.Container) { c.Health = []string{"ok", plan.Secret} },
		},
		"a request as its check": {
			func(_ *corev1.PodSpec, c *corev1.Container) {
				c.LivenessProbe = &corev1.Probe{}
				c.LivenessProbe.HTTPGet = &corev1.HTTPGetAction{Path: "/healthz"}
			},
			func(c *workload.Container) { c.Health = []string{"GET", "/healthz"} },
		},
		"another check": {
			func(_ *corev1.PodSpec, c *corev1.Container) { c.LivenessProbe = &corev1.Probe{} },
			func(c *workload.Container) { c.Health = []string{"a probe"} },
		},
		"a device": {
			func(_ *corev1.PodSpec, c *corev1.Container) {
				c.VolumeDevices = []corev1.VolumeDevice{{DevicePath: "/dev/xvda"}}
			},
			func(c *workload.Container) { c.Devices = []string{"/dev/xvda"} },
		},
		"volumes": {
			func(p *corev1.PodSpec, c *corev1.Container) {
				add := func(name string, source corev1.VolumeSource) {
					p.Volumes = append(p.Volumes, corev1.Volume{Name: name, VolumeSource: source})
					c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: name, MountPath: "/" + name})
				}
				projected := func(sources ...corev1.VolumeProjection) corev1.VolumeSource {
					return corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: sources}}
				}
				files := corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{}}
				add("host", corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/etc"}})
				add("claim", corev1.VolumeSource{
					PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"},
				})
				add("empty", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
				add("secret", corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{}})
				add("config", corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{}})
				add("projected", projected(files))
				add("mixed", projected(files, corev1.VolumeProjection{Secret: &corev1.SecretProjection{}}))
				c.VolumeMounts[0].ReadOnly = true
			},
			func(c *workload.Container) {
				c.Mounts = []workload.Mount{
					{Kind: workload.HostPath, Source: "/etc", Path: "/host", ReadOnly: true},
					{Kind: workload.Storage, Source: "data", Path: "/claim"},
					{Kind: workload.Memory, Path: "/empty"},
					{Kind: workload.Secrets, Source: "secret", Path: "/secret", ReadOnly: true},
					{Kind: workload.Files, Source: "config", Path: "/config", ReadOnly: true},
					{Kind: workload.Files, Source: "projected", Path: "/projected", ReadOnly: true},
					{Kind: workload.Secrets, Source: "mixed", Path: "/mixed", ReadOnly: true},
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := deployment()
			tc.change(&d.Spec.Template.Spec, &d.Spec.Template.Spec.Containers[0])
			want := workload.Container{
				Name: "main", Image: "busybox:1", NewPrivileges: true, LogBounded: true,
				Unconfined: []string{"seccomp"}, Env: map[string]string{},
			}
			tc.want(&want)
			if d := cmp.Diff(want, onCluster(t, d).Workloads[0].Containers[0]); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestPodsOfACluster reads what a controller and the objects around it say of its pods.
func TestPodsOfACluster(t *testing.T) {
	type objects = []runtime.Object
	account := func(name string, mounts *bool) *corev1.ServiceAccount {
		return &corev1.ServiceAccount{ObjectMeta: named(name), AutomountServiceAccountToken: mounts}
	}
	scaler := func(kind, name string, least *int32) *autoscalingv2.HorizontalPodAutoscaler {
		h := &autoscalingv2.HorizontalPodAutoscaler{}
		h.Spec.ScaleTargetRef = autoscalingv2.CrossVersionObjectReference{Kind: kind, Name: name}
		h.Spec.MinReplicas = least
		return h
	}
	for name, tc := range map[string]struct {
		change func(*appsv1.Deployment)
		beside objects
		want   func(*workload.Workload)
	}{
		"nothing": {func(*appsv1.Deployment) {}, nil, func(*workload.Workload) {}},
		"of no service": {
			func(d *appsv1.Deployment) { d.Spec.Template.Labels = nil }, nil,
			func(w *workload.Workload) { w.Service = "web" },
		},
		"replicas": {
			func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32(3)) },
			objects{scaler("Deployment", "web", new(int32(9)))},
			func(w *workload.Workload) { w.Replicas, w.Least = 3, 9 },
		},
		"replicas of an autoscaler": {
			func(*appsv1.Deployment) {}, objects{scaler("Deployment", "web", new(int32(4)))},
			func(w *workload.Workload) { w.Replicas, w.Least = 4, 4 },
		},
		"autoscaled without a minimum": {
			func(*appsv1.Deployment) {},
			objects{scaler("Deployment", "web", nil), scaler("StatefulSet", "web", new(int32(4)))},
			func(*workload.Workload) {},
		},
		"a namespace": {
			func(*appsv1.Deployment) {}, objects{&corev1.Namespace{ObjectMeta: named("n")}},
			func(w *workload.Workload) { w.Networks = []string{"namespace n"} },
		},
		"the machine's namespaces": {
			func(d *appsv1.Deployment) {
				p := &d.Spec.Template.Spec
				p.HostNetwork, p.HostPID, p.HostIPC = true, true, true
			}, nil,
			func(w *workload.Workload) { w.HostNamespaces = []string{"network", "pid", "ipc"} },
		},
		"no token of its own": {
			func(d *appsv1.Deployment) {
				d.Spec.Template.Spec.AutomountServiceAccountToken = new(false)
			}, nil,
			func(w *workload.Workload) { w.Token = false },
		},
		"a name server of its own": {
			func(d *appsv1.Deployment) { d.Spec.Template.Spec.DNSPolicy = corev1.DNSNone }, nil,
			func(w *workload.Workload) { w.NamesOutside = false },
		},
		"the node's name servers": {
			func(d *appsv1.Deployment) { d.Spec.Template.Spec.DNSPolicy = corev1.DNSDefault }, nil,
			func(*workload.Workload) {},
		},
		"a token of its own": {
			func(d *appsv1.Deployment) {
				d.Spec.Template.Spec.AutomountServiceAccountToken = new(true)
			},
			objects{account("default", new(false))},
			func(*workload.Workload) {},
		},
		"an account without a token": {
			func(*appsv1.Deployment) {}, objects{account("default", new(false))},
			func(w *workload.Workload) { w.Token = false },
		},
		"an account with a token": {
			func(*appsv1.Deployment) {}, objects{account("default", new(true))}, func(*workload.Workload) {},
		},
		"an account that says nothing": {
			func(*appsv1.Deployment) {}, objects{account("default", nil)}, func(*workload.Workload) {},
		},
		"an account of another name": {
			func(d *appsv1.Deployment) { d.Spec.Template.Spec.ServiceAccountName = "other" },
			objects{account("default", new(false)), account("other", new(true))},
			func(*workload.Workload) {},
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := deployment()
			tc.change(d)
			got := onCluster(t, append(tc.beside, d)...).Workloads[0]
			want := workload.Workload{
				Service: "backend", Kind: "Deployment", Name: "web", Replicas: 1, Token: true,
				WaysOut:      []string{"any address, as no network policy is about it"},
				NamesOutside: true,
				Containers:   got.Containers,
			}
			tc.want(&want)
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestContainersOfAPod tells those that end before the others start from those that stay, and reads
// what is beside them.
func TestContainersOfAPod(t *testing.T) {
	d := deployment()
	d.Spec.Template.Annotations = map[string]string{"b": "2", "a": plan.Secret}
	d.Spec.Template.Spec.InitContainers = []corev1.Container{
		{Name: "first"},
		{Name: "sidecar", RestartPolicy: new(corev1.ContainerRestartPolicyAlways)},
		{Name: "second", RestartPolicy: new(corev1.ContainerRestartPolicyNever)},
	}
	d.Spec.Template.Spec.Containers[0].Image = plan.Computed
	d.Spec.Template.Spec.Containers[0].Ports = []corev1.ContainerPort{
		{ContainerPort: 80}, {ContainerPort: 80, HostPort: 81, HostIP: "10.0.0.1"},
	}
	d.Spec.Template.Spec.Containers = append(d.Spec.Template.Spec.Containers,
		corev1.Container{Name: "other", Image: plan.Computed},
		corev1.Container{Name: "third", Image: "redis:8"})
	pushed := func(name string) plan.Resource {
		return plan.Resource{
			Type: "docker:index/image:Image", Name: name,
			Inputs: map[string]any{"imageName": "r/" + name + ":1"},
		}
	}
	view := read(t, resourceOf(t, d), pushed("main"), pushed("third"))

	type shown struct {
		Name, Image string
		Init, Built bool
	}
	var got []shown
	for _, c := range view.Workloads[0].Containers {
		got = append(got, shown{c.Name, c.Image, c.Init, c.Built})
		want := map[string]string{"a": plan.Secret, "b": "2"}
		if d := cmp.Diff(want, c.Labels); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.Name, d)
		}
	}
	want := []shown{
		{"first", "", true, false}, {"sidecar", "", false, false}, {"second", "", true, false},
		{"main", "r/main:1", false, true}, {"other", plan.Computed, false, false},
		{"third", "redis:8", false, false},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	exposed := []workload.Exposure{
		{Service: "backend", How: "host port", Address: "10.0.0.1", Port: 81},
	}
	if d := cmp.Diff(exposed, view.Exposed); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestFences reads what network policies let pods do.
func TestFences(t *testing.T) {
	type rule = networkingv1.NetworkPolicyEgressRule
	const in, out = networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress
	both := []networkingv1.PolicyType{in, out}
	block := func(cidr string) networkingv1.NetworkPolicyPeer {
		return networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: cidr}}
	}
	pods := func(service string) networkingv1.NetworkPolicyPeer {
		return networkingv1.NetworkPolicyPeer{
			PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{stacks.LabelService: service}},
		}
	}
	anywhere := networkingv1.NetworkPolicyPeer{NamespaceSelector: &metav1.LabelSelector{}}
	to := func(peers ...networkingv1.NetworkPolicyPeer) rule { return rule{To: peers} }
	at := func(r rule, ports ...int32) rule {
		for _, p := range ports {
			r.Ports = append(r.Ports, networkingv1.NetworkPolicyPort{Port: new(intstr.FromInt32(p))})
		}
		return r
	}
	every := networkingv1.NetworkPolicyPort{}
	for name, tc := range map[string]struct {
		types  []networkingv1.PolicyType
		rules  []rule
		calls  []string
		out    []string
		names  bool
		fenced bool
	}{
		"nothing is allowed": {
			types: both, fenced: true,
		},
		"only in is denied": {
			types: both[:1], out: []string{"any address, as no network policy is about it"},
		},
		"only out is denied": {
			types: both[1:],
		},
		"services": {
			types: both, rules: []rule{to(pods("b"), pods("a"), pods("a"))},
			calls: []string{"a", "b"}, fenced: true,
		},
		"the resolver": {
			types: both, rules: []rule{at(to(pods(stacks.Resolver)), 5353)}, fenced: true,
		},
		"pods of no service": {
			types: both, rules: []rule{to(pods(""))}, fenced: true,
		},
		"everywhere": {
			types: both, rules: []rule{to()}, out: []string{"any address"}, fenced: true,
		},
		"everywhere at a port": {
			types: both, rules: []rule{at(to(), 443, 443, 80)},
			out: []string{"any address port 443, 80"}, fenced: true,
		},
		"every address": {
			types: both, rules: []rule{to(block("0.0.0.0/0"), block("::/0"))},
			out: []string{"any address"}, fenced: true,
		},
		"some addresses": {
			types: both, rules: []rule{to(block("10.0.0.0/8"))},
			out: []string{"10.0.0.0/8"}, fenced: true,
		},
		"another namespace": {
			types: both, rules: []rule{to(anywhere)},
			out: []string{"other namespaces"}, fenced: true,
		},
		"names": {
			types: both, rules: []rule{at(to(anywhere), 53)}, names: true, fenced: true,
		},
		"names of the node": {
			types: both, rules: []rule{at(to(block("169.254.20.10/32")), 53)}, names: true,
			fenced: true,
		},
		"names and more": {
			types: both, rules: []rule{at(to(anywhere), 53, 80)},
			out: []string{"other namespaces port 53, 80"}, fenced: true,
		},
		"the node, not for names": {
			types: both, rules: []rule{at(to(block("169.254.20.10/32")), 80)},
			out: []string{"169.254.20.10/32 port 80"}, fenced: true,
		},
		"names of any node": {
			types: both, rules: []rule{at(to(block("169.254.0.0/16")), 53)},
			out: []string{"169.254.0.0/16 port 53"}, fenced: true,
		},
		"names of another machine": {
			types: both, rules: []rule{at(to(block("8.8.8.8/32")), 53)},
			out: []string{"8.8.8.8/32 port 53"}, fenced: true,
		},
		"a range of ports": {
			types: both, rules: []rule{{Ports: []networkingv1.NetworkPolicyPort{
				{Port: new(intstr.FromInt(53)), EndPort: new(int32(99))}}}},
			out: []string{"any address port 53-99"}, fenced: true,
		},
		"a port, and every one": {
			types: both, rules: []rule{{Ports: []networkingv1.NetworkPolicyPort{
				{Port: new(intstr.FromInt(53))}, every}}},
			out: []string{"any address"}, fenced: true,
		},
		"names at every port": {
			types: both, rules: []rule{{To: []networkingv1.NetworkPolicyPeer{anywhere},
				Ports: []networkingv1.NetworkPolicyPort{every}}},
			out: []string{"other namespaces"}, fenced: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			policy := &networkingv1.NetworkPolicy{}
			policy.Spec.PodSelector.MatchLabels = map[string]string{stacks.LabelService: "backend"}
			policy.Spec.PolicyTypes, policy.Spec.Egress = tc.types, tc.rules
			other := &networkingv1.NetworkPolicy{}
			other.Spec.PodSelector.MatchLabels = map[string]string{stacks.LabelService: "ml"}
			other.Spec.PolicyTypes, other.Spec.Egress = both, []rule{to(pods("others"))}
			d := deployment()
			d.Spec.Template.Spec.DNSPolicy = corev1.DNSNone
			w := onCluster(t, policy, other, d).Workloads[0]
			if w.Fenced != tc.fenced {
				t.Errorf("fenced %v, want %v", w.Fenced, tc.fenced)
			}
			if w.NamesOutside != tc.names {
				t.Errorf("names outside %v, want %v", w.NamesOutside, tc.names)
			}
			if d := cmp.Diff(tc.calls, w.Calls); d != "" {
				t.Errorf("calls (-want +got):\n%s", d)
			}
			if d := cmp.Diff(tc.out, w.WaysOut); d != "" {
				t.Errorf("ways out (-want +got):\n%s", d)
			}
		})
	}
}

// TestStrangers reads whether network policies let in others than the stack's pods.
func TestStrangers(t *testing.T) {
	const in, out = networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress
	type rule = networkingv1.NetworkPolicyIngressRule
	type peer = networkingv1.NetworkPolicyPeer
	everyPod := &metav1.LabelSelector{}
	for name, tc := range map[string]struct {
		types []networkingv1.PolicyType
		rules []rule
		want  bool
	}{
		"nobody":            {types: []networkingv1.PolicyType{in, out}},
		"the stack's pods":  {rules: []rule{{From: []peer{{PodSelector: everyPod}}}}},
		"everybody":         {rules: []rule{{}}, want: true},
		"not of what comes": {types: []networkingv1.PolicyType{out}, rules: []rule{{}}},
		"a block of addresses": {rules: []rule{{From: []peer{
			{PodSelector: everyPod}, {IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.0/8"}},
		}}}, want: true},
		"another namespace": {rules: []rule{{From: []peer{
			{PodSelector: everyPod, NamespaceSelector: &metav1.LabelSelector{}},
		}}}, want: true},
	} {
		policy := &networkingv1.NetworkPolicy{}
		policy.Spec.PodSelector.MatchLabels = map[string]string{stacks.LabelService: "backend"}
		policy.Spec.PolicyTypes, policy.Spec.Ingress = tc.types, tc.rules
		if tc.types == nil {
			policy.Spec.PolicyTypes = []networkingv1.PolicyType{in, out}
		}
		if got := onCluster(t, policy, deployment()).Workloads[0].Strangers; got != tc.want {
			t.Errorf("%s: strangers are let in: %v", name, got)
		}
	}
}

// TestObjectsOfACluster reads what belongs to no single pod.
func TestObjectsOfACluster(t *testing.T) {
	service := func(name string, kind corev1.ServiceType, external ...string) *corev1.Service {
		s := &corev1.Service{ObjectMeta: named(name)}
		s.Spec.Type, s.Spec.ExternalIPs = kind, external
		s.Spec.Ports = []corev1.ServicePort{{Port: 80}}
		return s
	}
	labelled := service("x", corev1.ServiceTypeNodePort)
	labelled.Labels = map[string]string{stacks.LabelService: "edge"}
	backend := networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: "edge"}}
	ingress := func(tls ...networkingv1.IngressTLS) *networkingv1.Ingress {
		i := &networkingv1.Ingress{}
		i.Spec.TLS = tls
		i.Spec.Rules = []networkingv1.IngressRule{{Host: "other.example.com"}, {Host: "chat.example.com"}}
		i.Spec.Rules[1].HTTP = &networkingv1.HTTPIngressRuleValue{
			Paths: []networkingv1.HTTPIngressPath{{Backend: backend}, {}},
		}
		return i
	}
	gateway := func(kind string, spec map[string]any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "gateway.networking.k8s.io/v1", "kind": kind,
			"metadata": map[string]any{"name": "g"}, "spec": spec,
		}}
	}
	listeners := gateway("Gateway", map[string]any{"listeners": []any{
		map[string]any{"name": "http"},
		map[string]any{"name": "https", "tls": map[string]any{"mode": "Terminate"}},
	}})
	route := func(spec map[string]any, listeners ...string) *unstructured.Unstructured {
		var parents []any
		for _, l := range listeners {
			parents = append(parents, map[string]any{"name": "g", "sectionName": l})
		}
		spec["parentRefs"] = parents
		return gateway("HTTPRoute", spec)
	}
	to := func(names ...string) []any {
		var refs []any
		for _, name := range names {
			refs = append(refs, map[string]any{"name": name})
		}
		return []any{map[string]any{"backendRefs": refs}, map[string]any{}}
	}
	for name, tc := range map[string]struct {
		objects []runtime.Object
		want    []workload.Exposure
	}{
		"a service of the cluster": {
			[]runtime.Object{service("a", corev1.ServiceTypeClusterIP)}, nil,
		},
		"a balanced service": {
			[]runtime.Object{service("a", corev1.ServiceTypeLoadBalancer)},
			[]workload.Exposure{{Service: "a", How: "load balancer", Port: 80}},
		},
		"a node's port": {
			[]runtime.Object{labelled},
			[]workload.Exposure{{Service: "edge", How: "node port", Port: 80}},
		},
		"an address": {
			[]runtime.Object{service("a", corev1.ServiceTypeClusterIP, "10.0.0.1")},
			[]workload.Exposure{{Service: "a", How: "external address", Port: 80}},
		},
		"an ingress": {
			[]runtime.Object{ingress()},
			[]workload.Exposure{{Service: "edge", How: "ingress", Address: "chat.example.com"}},
		},
		"an encrypted ingress": {
			[]runtime.Object{ingress(networkingv1.IngressTLS{})},
			[]workload.Exposure{{Service: "edge", How: "ingress", Address: "chat.example.com", TLS: true}},
		},
		"a route": {
			[]runtime.Object{listeners, route(map[string]any{"rules": to("a", "b")}, "http")},
			[]workload.Exposure{{Service: "a", How: "route"}, {Service: "b", How: "route"}},
		},
		"a route of a host, encrypted": {
			[]runtime.Object{listeners, route(map[string]any{
				"rules": to("a"), "hostnames": []any{"chat.example.com", "www.example.com"},
			}, "https", "http")},
			[]workload.Exposure{{Service: "a", How: "route", Address: "chat.example.com", TLS: true}},
		},
		"of no form that is known": {
			[]runtime.Object{gateway("HTTPRoute", map[string]any{"rules": "none"})}, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(tc.want, onCluster(t, tc.objects...).Exposed); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestVolumesOfACluster tells which claims outlive the stack.
func TestVolumesOfACluster(t *testing.T) {
	claim := corev1.PersistentVolumeClaim{ObjectMeta: named("data")}
	claim.Spec.Resources.Requests = corev1.ResourceList{"storage": resource.MustParse("1Gi")}
	set := func(deleted appsv1.PersistentVolumeClaimRetentionPolicyType) *appsv1.StatefulSet {
		s := &appsv1.StatefulSet{ObjectMeta: named("redis")}
		s.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{claim}
		s.Spec.Template.Spec.Volumes = []corev1.Volume{{Name: "data"}}
		if deleted != "" {
			s.Spec.PersistentVolumeClaimRetentionPolicy =
				&appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{WhenDeleted: deleted}
		}
		return s
	}
	const (
		retain = appsv1.RetainPersistentVolumeClaimRetentionPolicyType
		remove = appsv1.DeletePersistentVolumeClaimRetentionPolicyType
	)
	for name, tc := range map[string]struct {
		object        runtime.Object
		ofItself      bool
		namespaceKept bool
		want          bool
	}{
		"all stays":                     {&claim, true, true, true},
		"the namespace goes":            {&claim, true, false, false},
		"the claim goes":                {&claim, false, true, false},
		"of a set that says nothing":    {set(""), false, true, true},
		"of a set that keeps it":        {set(retain), false, true, true},
		"of a set that takes it along":  {set(remove), false, true, false},
		"of a set whose namespace goes": {set(""), true, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			namespace := resourceOf(t, &corev1.Namespace{ObjectMeta: named("n")})
			namespace.Options = &plan.Options{RetainOnDelete: tc.namespaceKept}
			object := resourceOf(t, tc.object)
			object.Options = &plan.Options{RetainOnDelete: tc.ofItself}
			view := read(t, namespace, object)
			want := []workload.Volume{{Name: "data", Size: 1 << 30, Retained: tc.want}}
			if d := cmp.Diff(want, view.Volumes); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if d := cmp.Diff([]workload.Network{{Name: "namespace n"}}, view.Networks); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			for _, w := range view.Workloads {
				if w.Kind != "StatefulSet" || !w.StopsFirst {
					t.Errorf("%+v", w)
				}
			}
		})
	}
}

// TestClaimsOfASet are mounted by the name of their template; a job runs its pods side by side.
func TestClaimsOfASet(t *testing.T) {
	s := &appsv1.StatefulSet{ObjectMeta: named("redis")}
	s.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{{ObjectMeta: named("data")}}
	s.Spec.Template.Spec.Containers = []corev1.Container{{
		Name: "main", VolumeMounts: []corev1.VolumeMount{{Name: "data", MountPath: "/data"}},
	}}
	job := &batchv1.Job{ObjectMeta: named("model")}
	job.Spec.Parallelism = new(int32(2))
	view := onCluster(t, s, job)
	mounts := []workload.Mount{{Kind: workload.Storage, Source: "data", Path: "/data"}}
	if d := cmp.Diff(mounts, view.Workloads[1].Containers[0].Mounts); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if w := view.Workloads[0]; w.Kind != "Job" || w.Replicas != 2 || w.StopsFirst {
		t.Errorf("%+v", w)
	}
}

// TestReadsObjectsAlone leaves out what is no object, and Secrets, of which a plan shows nothing.
func TestReadsObjectsAlone(t *testing.T) {
	component := resourceOf(t, deployment())
	component.Type = "codexcontinue:kubernetes:Service"
	secret := resourceOf(t, deployment())
	secret.Type = "kubernetes:core/v1:Secret"
	provider := plan.Resource{Type: "kubernetes:provider", Name: "p"}
	if view := read(t, component, secret, provider); len(view.Workloads) != 0 {
		t.Errorf("%+v", view.Workloads)
	}
	broken := resourceOf(t, deployment())
	broken.Inputs["spec"] = "none"
	_, err := workload.Of(plan.Document{
		Stack: "prod", Target: stacks.Kubernetes, Resources: []plan.Resource{broken},
	})
	if err == nil {
		t.Error("a Deployment of another form is read")
	}
}
