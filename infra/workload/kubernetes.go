package workload

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/codexcontinue/codexcontinue/infra/kubernetes"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/stacks"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
)

// pushedType is the type of what builds and pushes an image.
const pushedType = "docker:index/image:Image"

// cluster is what has to be known of all objects before one can be read.
type cluster struct {
	// pushed are the images that are pushed, by service. Their references are not known in a plan:
	// each is that of the service after which the container that runs it is named.
	pushed    map[string]string
	tokens    map[string]bool // by the name of the account
	least     map[string]int  // replicas that an autoscaler keeps, by "Kind/name"
	tls       map[string]bool // listeners of gateways that encrypt, as name/listener
	policies  []networkingv1.NetworkPolicy
	namespace string

	// kept reports whether the namespace, and with it every claim in it, outlives the stack.
	kept bool
}

// readKubernetes reads a plan for a cluster, whose objects are registered as they are rendered.
func (v *View) readKubernetes(resources []plan.Resource) error {
	c := &cluster{
		pushed: map[string]string{}, tokens: map[string]bool{},
		least: map[string]int{}, tls: map[string]bool{},
	}

	var objects []*kubernetes.Object
	for _, r := range resources {
		if r.Type == pushedType {
			c.pushed[r.Name], _ = r.Inputs["imageName"].(string)
		}

		// Components, providers and images are no objects. Of a Secret a plan shows nothing.
		if r.Inputs["kind"] == nil || !strings.HasPrefix(r.Type, "kubernetes:") ||
			strings.HasSuffix(r.Type, ":Secret") {
			continue
		}

		o, err := objectOf(r)
		if err != nil {
			return fmt.Errorf("%s %s: %w", r.Type, r.Name, err)
		}

		c.note(o)
		objects = append(objects, o)
	}

	if c.namespace != "" {
		v.Networks = []Network{{Name: c.namespace}}
	}

	for _, o := range objects {
		v.addObject(o, c)
	}

	return nil
}

// objectOf returns the resource as a type of its API. Text that stands for a value that is
// not known stays text.
func objectOf(r plan.Resource) (*kubernetes.Object, error) {
	o := &kubernetes.Object{Retained: r.Options != nil && r.Options.RetainOnDelete}
	u := &unstructured.Unstructured{Object: r.Inputs}
	typed, err := kubernetes.Scheme().New(u.GroupVersionKind())
	if runtime.IsNotRegisteredError(err) {
		o.API = u
		return o, nil
	}

	if err != nil {
		return nil, err
	}

	text, err := json.Marshal(r.Inputs)
	if err != nil {
		return nil, err
	}

	o.API = typed.(kubernetes.API)
	return o, json.Unmarshal(text, typed)
}

// note keeps what others have to know of the object.
func (c *cluster) note(o *kubernetes.Object) {
	switch x := o.API.(type) {
	case *corev1.Namespace:
		c.namespace, c.kept = "namespace "+x.Name, o.Retained
	case *corev1.ServiceAccount:
		c.tokens[x.Name] = ptr.Deref(x.AutomountServiceAccountToken, true)
	case *autoscalingv2.HorizontalPodAutoscaler:
		if x.Spec.MinReplicas != nil {
			of := x.Spec.ScaleTargetRef
			c.least[of.Kind+"/"+of.Name] = int(*x.Spec.MinReplicas)
		}
	case *networkingv1.NetworkPolicy:
		c.policies = append(c.policies, *x)
	case *unstructured.Unstructured:
		for _, l := range routeOf(x).Spec.Listeners {
			c.tls[x.GetName()+"/"+l.Name] = l.TLS != nil
		}
	}
}

// addObject adds what the object would run, keep or open.
func (v *View) addObject(o *kubernetes.Object, c *cluster) {
	switch x := o.API.(type) {
	case *appsv1.Deployment:
		v.addPods(o, c, x.Spec.Replicas, x.Spec.Template, nil)
	case *appsv1.StatefulSet:
		policy := x.Spec.PersistentVolumeClaimRetentionPolicy
		kept := policy == nil ||
			policy.WhenDeleted != appsv1.DeletePersistentVolumeClaimRetentionPolicyType
		for _, claim := range x.Spec.VolumeClaimTemplates {
			v.addClaim(claim, c.kept && kept)
		}
		v.addPods(o, c, x.Spec.Replicas, x.Spec.Template, x.Spec.VolumeClaimTemplates)
	case *batchv1.Job:
		v.addPods(o, c, x.Spec.Parallelism, x.Spec.Template, nil)
	case *corev1.PersistentVolumeClaim:
		v.addClaim(*x, c.kept && o.Retained)
	case *corev1.Service:
		v.addService(x)
	case *networkingv1.Ingress:
		v.addIngress(x)
	case *unstructured.Unstructured:
		v.addHTTPRoute(routeOf(x), c.tls)
	}
}

// route is what of the objects of the Gateway API is read: a Gateway's listeners, and where an
// HTTPRoute leads.
type route struct {
	Spec struct {
		Listeners []struct {
			Name string `json:"name"`
			TLS  any    `json:"tls"`
		} `json:"listeners"`
		Hostnames  []string `json:"hostnames"`
		ParentRefs []struct {
			Name        string `json:"name"`
			SectionName string `json:"sectionName"`
		} `json:"parentRefs"`
		Rules []struct {
			BackendRefs []struct {
				Name string `json:"name"`
			} `json:"backendRefs"`
		} `json:"rules"`
	} `json:"spec"`
}

// routeOf reads the object. What is of another form than the API's reads as nothing.
func routeOf(u *unstructured.Unstructured) route {
	var r route
	if text, err := u.MarshalJSON(); err != nil || json.Unmarshal(text, &r) != nil {
		return route{}
	}
	return r
}

func (v *View) addClaim(claim corev1.PersistentVolumeClaim, retained bool) {
	size := stacks.Bytes(claim.Spec.Resources.Requests.Storage().Value())
	v.Volumes = append(v.Volumes, Volume{Name: claim.Name, Size: size, Retained: retained})
}

// addService adds what a Service opens to other machines.
func (v *View) addService(s *corev1.Service) {
	how := map[corev1.ServiceType]string{
		corev1.ServiceTypeLoadBalancer: "load balancer",
		corev1.ServiceTypeNodePort:     "node port",
	}[s.Spec.Type]
	if len(s.Spec.ExternalIPs) > 0 {
		how = "external address"
	}
	if how == "" {
		return
	}

	for _, p := range s.Spec.Ports {
		v.Exposed = append(v.Exposed, Exposure{
			Service: cmp.Or(s.Labels[stacks.LabelService], s.Name), How: how, Port: int(p.Port),
		})
	}
}

func (v *View) addIngress(i *networkingv1.Ingress) {
	for _, rule := range i.Spec.Rules {
		if rule.HTTP == nil {
			continue
		}

		for _, p := range rule.HTTP.Paths {
			if to := p.Backend.Service; to != nil {
				v.Exposed = append(v.Exposed, Exposure{
					Service: to.Name, How: "ingress", Address: rule.Host, TLS: len(i.Spec.TLS) > 0,
				})
			}
		}
	}
}

// addHTTPRoute adds what a route of the Gateway API leads to; one that only
// redirects leads nowhere.
func (v *View) addHTTPRoute(r route, tls map[string]bool) {
	host := ""
	if len(r.Spec.Hostnames) > 0 {
		host = r.Spec.Hostnames[0]
	}

	encrypted := false // by a listener of the stack's own gateway
	for _, parent := range r.Spec.ParentRefs {
		encrypted = encrypted || tls[parent.Name+"/"+parent.SectionName]
	}

	for _, rule := range r.Spec.Rules {
		for _, to := range rule.BackendRefs {
			v.Exposed = append(v.Exposed, Exposure{
				Service: to.Name, How: "route", Address: host, TLS: encrypted,
			})
		}
	}
}

// addPods adds the pods of a controller. claims are those that it makes for each.
func (v *View) addPods(
	o *kubernetes.Object, c *cluster, replicas *int32, template corev1.PodTemplateSpec,
	claims []corev1.PersistentVolumeClaim,
) {
	pod, kind, name := template.Spec, o.GetObjectKind().GroupVersionKind().Kind, o.GetName()
	w := Workload{
		Service: cmp.Or(template.Labels[stacks.LabelService], name), Kind: kind, Name: name,
		Least: c.least[kind+"/"+name], Replicas: cmp.Or(c.least[kind+"/"+name], 1),
		// The pods of a StatefulSet keep their names, so the old one has to be gone.
		StopsFirst: kind == "StatefulSet",
	}
	if replicas != nil {
		w.Replicas = int(*replicas)
	}
	if c.namespace != "" {
		w.Networks = []string{c.namespace}
	}

	for _, n := range []struct {
		name   string
		shared bool
	}{{"network", pod.HostNetwork}, {"pid", pod.HostPID}, {"ipc", pod.HostIPC}} {
		if n.shared {
			w.HostNamespaces = append(w.HostNamespaces, n.name)
		}
	}

	token, known := c.tokens[cmp.Or(pod.ServiceAccountName, "default")]
	w.Token = ptr.Deref(pod.AutomountServiceAccountToken, token || !known)
	// What a pod asks, and what it may ask, as not every cluster enforces its policies.
	w.NamesOutside = pod.DNSPolicy != corev1.DNSNone
	w.fence(c.policies, template.Labels)
	sources := podSources(pod, claims)
	add := func(container corev1.Container, init bool) {
		read := podContainer(container, pod, sources)
		read.Init, read.Labels = init, template.Annotations
		// Clusters still obey the annotation of before there was a field.
		const prefix = corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix
		if template.Annotations[prefix+container.Name] == corev1.DeprecatedAppArmorBetaProfileNameUnconfined &&
			!slices.Contains(read.Unconfined, appArmor) {
			read.Unconfined = append(read.Unconfined, appArmor)
		}
		if pushed, ok := c.pushed[read.Name]; ok && read.Image == plan.Computed {
			read.Image, read.Built = pushed, true
		}

		w.Containers = append(w.Containers, read)

		for _, p := range container.Ports {
			if p.HostPort != 0 {
				v.Exposed = append(v.Exposed, Exposure{
					Service: w.Service, How: "host port", Address: p.HostIP, Port: int(p.HostPort),
				})
			}
		}
	}

	for _, container := range pod.InitContainers {
		always := ptr.Deref(container.RestartPolicy, "") == corev1.ContainerRestartPolicyAlways
		add(container, !always)
	}

	for _, container := range pod.Containers {
		add(container, false)
	}

	v.Workloads = append(v.Workloads, w)
}

// fence reads what network policies let the pods do. A direction that no policy is about is open.
func (w *Workload) fence(policies []networkingv1.NetworkPolicy, pod map[string]string) {
	in, out := false, false
	for _, p := range policies {
		selector, err := metav1.LabelSelectorAsSelector(&p.Spec.PodSelector)
		if err != nil || !selector.Matches(labels.Set(pod)) {
			continue
		}

		in = in || slices.Contains(p.Spec.PolicyTypes, networkingv1.PolicyTypeIngress)
		out = out || slices.Contains(p.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
		for _, rule := range p.Spec.Egress {
			w.let(rule)
		}
		if slices.Contains(p.Spec.PolicyTypes, networkingv1.PolicyTypeIngress) {
			w.Strangers = w.Strangers || slices.ContainsFunc(p.Spec.Ingress, strangers)
		}
	}

	w.Fenced = in && out
	if !out {
		w.WaysOut = append(w.WaysOut, "any address, as no network policy is about it")
	}

	slices.Sort(w.Calls)
	w.Calls = slices.Compact(w.Calls)
	slices.Sort(w.WaysOut)
	w.WaysOut = slices.Compact(w.WaysOut)
}

// Namespaces is the beginning of a way out to pods of other namespaces.
const Namespaces = "other namespaces"

// strangers reports whether the rule lets in others than pods of the stack's namespace.
func strangers(rule networkingv1.NetworkPolicyIngressRule) bool {
	return len(rule.From) == 0 || slices.ContainsFunc(rule.From,
		func(from networkingv1.NetworkPolicyPeer) bool {
			return from.IPBlock != nil || from.NamespaceSelector != nil
		})
}

// dnsPort is where the cluster's name servers are asked.
const dnsPort = 53

// let reads one rule: it leads to services of the stack, to the name servers, or out.
func (w *Workload) let(rule networkingv1.NetworkPolicyEgressRule) {
	at := ""
	onlyDNS, all := len(rule.Ports) > 0, false
	var numbers []string
	for _, p := range rule.Ports {
		if p.Port == nil { // every port of a protocol
			onlyDNS, all = false, true
			continue
		}

		number := p.Port.String()
		if p.EndPort != nil {
			number += fmt.Sprintf("-%d", *p.EndPort)
		}
		onlyDNS = onlyDNS && number == strconv.Itoa(dnsPort)
		if p.Protocol != nil && *p.Protocol != corev1.ProtocolTCP {
			number += "/" + strings.ToLower(string(*p.Protocol))
		}
		numbers = append(numbers, number)
	}

	if len(numbers) > 0 && !all {
		at = " port " + strings.Join(slices.Compact(numbers), ", ")
	}
	if len(rule.To) == 0 {
		w.WaysOut = append(w.WaysOut, "any address"+at)
	}

	for _, to := range rule.To {
		switch {
		case to.IPBlock != nil && (to.IPBlock.CIDR == "0.0.0.0/0" || to.IPBlock.CIDR == "::/0"):
			w.WaysOut = append(w.WaysOut, "any address"+at)
		case to.IPBlock != nil && onlyDNS && onNode(to.IPBlock.CIDR):
			w.NamesOutside = true
		case to.IPBlock != nil:
			w.WaysOut = append(w.WaysOut, to.IPBlock.CIDR+at)
		case to.NamespaceSelector != nil && onlyDNS:
			w.NamesOutside = true
		case to.NamespaceSelector != nil:
			w.WaysOut = append(w.WaysOut, Namespaces+at)
		case to.PodSelector != nil &&
			to.PodSelector.MatchLabels[stacks.LabelService] == stacks.Resolver: // no callee either
		case to.PodSelector != nil && to.PodSelector.MatchLabels[stacks.LabelService] != "":
			w.Calls = append(w.Calls, to.PodSelector.MatchLabels[stacks.LabelService])
		}
	}
}

// onNode reports whether the addresses are that of the name server on the node itself.
func onNode(cidr string) bool {
	return strings.HasPrefix(cidr, "169.254.") && strings.HasSuffix(cidr, "/32")
}

// podSources returns what is behind the volumes of a pod, by their names; claims that a controller
// makes are named by it.
func podSources(pod corev1.PodSpec, claims []corev1.PersistentVolumeClaim) map[string]Mount {
	out := map[string]Mount{}
	for _, claim := range claims {
		out[claim.Name] = Mount{Kind: Storage, Source: claim.Name}
	}

	for _, v := range pod.Volumes {
		m := Mount{Kind: Files, Source: v.Name}
		switch {
		case v.HostPath != nil:
			m.Kind, m.Source = HostPath, v.HostPath.Path
		case v.PersistentVolumeClaim != nil:
			m.Kind, m.Source = Storage, v.PersistentVolumeClaim.ClaimName
		case v.EmptyDir != nil:
			m.Kind, m.Source = Memory, ""
		case v.Secret != nil, v.Projected != nil && slices.ContainsFunc(v.Projected.Sources,
			func(s corev1.VolumeProjection) bool { return s.Secret != nil }):
			m.Kind = Secrets
		}

		out[v.Name] = m
	}

	return out
}

func podContainer(c corev1.Container, pod corev1.PodSpec, sources map[string]Mount) Container {
	out := Container{
		Name: c.Name, Image: c.Image, Built: strings.HasPrefix(c.Image, stacks.Project+"/"),
		Command: slices.Concat(c.Command, c.Args), Env: map[string]string{},
		CPU:        stacks.MilliCPU(c.Resources.Limits.Cpu().MilliValue()),
		Memory:     stacks.Bytes(c.Resources.Limits.Memory().Value()),
		Health:     probeOf(c.LivenessProbe),
		LogBounded: true, // by the kubelet

		RequestedCPU:    stacks.MilliCPU(requested(c, corev1.ResourceCPU).MilliValue()),
		RequestedMemory: stacks.Bytes(requested(c, corev1.ResourceMemory).Value()),
	}

	for _, e := range c.Env {
		out.Env[e.Name] = e.Value
		if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
			out.Env[e.Name] = plan.Secret
		}
	}

	for _, from := range c.EnvFrom {
		if from.SecretRef != nil {
			out.Env["everything of the secret "+from.SecretRef.Name] = plan.Secret
		}
	}

	for name, q := range c.Resources.Limits {
		if strings.Contains(string(name), "/") {
			out.GPU = string(name) + " " + q.String()
		}
	}

	for _, m := range c.VolumeMounts {
		mount := sources[m.Name]
		mount.Path = m.MountPath
		mount.ReadOnly = m.ReadOnly || mount.Kind == Files || mount.Kind == Secrets
		out.Mounts = append(out.Mounts, mount)
	}

	for _, d := range c.VolumeDevices {
		out.Devices = append(out.Devices, d.DevicePath)
	}

	out.secure(cmp.Or(c.SecurityContext, &corev1.SecurityContext{}),
		cmp.Or(pod.SecurityContext, &corev1.PodSecurityContext{}))
	return out
}

// requested returns what the container asks for: its limit, unless it says otherwise.
func requested(c corev1.Container, name corev1.ResourceName) *resource.Quantity {
	q, ok := c.Resources.Requests[name]
	if !ok {
		q = c.Resources.Limits[name]
	}
	return &q
}

// secure reads what the container may do; what it leaves out is the pod's to say.
func (c *Container) secure(own *corev1.SecurityContext, pod *corev1.PodSecurityContext) {
	if user := cmp.Or(own.RunAsUser, pod.RunAsUser); user != nil {
		c.User = strconv.FormatInt(*user, 10)
		if group := cmp.Or(own.RunAsGroup, pod.RunAsGroup); group != nil {
			c.User += ":" + strconv.FormatInt(*group, 10)
		}
	}

	c.ReadOnlyRoot = ptr.Deref(own.ReadOnlyRootFilesystem, false)
	c.Privileged = ptr.Deref(own.Privileged, false)
	c.NewPrivileges = ptr.Deref(own.AllowPrivilegeEscalation, true)
	kept := ptr.Deref(own.Capabilities, corev1.Capabilities{})
	c.DroppedCapabilities, c.AddedCapabilities = capabilities(kept.Drop), capabilities(kept.Add)

	// A cluster's default is no profile at all.
	seccomp := cmp.Or(own.SeccompProfile, pod.SeccompProfile)
	if seccomp == nil || seccomp.Type == corev1.SeccompProfileTypeUnconfined {
		c.Unconfined = append(c.Unconfined, "seccomp")
	}

	profile := cmp.Or(own.AppArmorProfile, pod.AppArmorProfile)
	if profile != nil && profile.Type == corev1.AppArmorProfileTypeUnconfined {
		c.Unconfined = append(c.Unconfined, appArmor)
	}
}

// appArmor is the name of a confinement.
const appArmor = "apparmor"

func probeOf(p *corev1.Probe) []string {
	switch {
	case p == nil:
		return nil
	case p.Exec != nil:
		return p.Exec.Command
	case p.HTTPGet != nil:
		return []string{"GET", p.HTTPGet.Path}
	}

	return []string{"a probe"}
}
