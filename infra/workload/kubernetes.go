package workload

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/codexcontinue/codexcontinue/infra/kubernetes/manifest"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/stacks"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// object is a recorded object of a cluster.
type object struct {
	plan.Resource
	kind string
	name string
	// labels are the object's own.
	labels map[string]string
}

// objectsOf are the resources that become objects of a cluster: components, providers and images do not.
func objectsOf(resources []plan.Resource) []object {
	var out []object
	for _, r := range resources {
		in := fields(r.Inputs)
		if !strings.HasPrefix(r.Type, "kubernetes:") || in.text("kind") == "" {
			continue
		}
		meta := in.object("metadata")
		o := object{Resource: r, kind: in.text("kind"), name: meta.text("name"), labels: map[string]string{}}
		for _, k := range meta.object("labels").keys() {
			o.labels[k] = meta.object("labels").text(k)
		}
		out = append(out, o)
	}
	return out
}

// decode reads the object into a type of its API. Text that stands for a value that is not known stays text.
func (o object) decode(into any) error {
	text, err := json.Marshal(o.Inputs)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", o.kind, o.Name, err)
	}
	return nil
}

func (o object) retained() bool { return o.Options != nil && o.Options.RetainOnDelete }

// cluster is what has to be known of all objects before one can be read.
type cluster struct {
	images    manifest.Images // of what is built
	tokens    map[string]bool // by the name of the account
	least     map[string]int  // replicas that an autoscaler keeps, by "Kind/name"
	tls       map[string]bool // listeners of gateways that encrypt, as name/listener
	policies  []networkingv1.NetworkPolicy
	namespace string
	// kept says that the namespace, and with it every claim in it, outlives the stack.
	kept bool
}

func (v *View) readKubernetes(resources []plan.Resource) error {
	objects := objectsOf(resources)
	c, err := clusterOf(resources, objects)
	if err != nil {
		return err
	}
	if c.namespace != "" {
		v.Networks = []Network{{Name: c.namespace}}
	}
	for _, o := range objects {
		if err := v.readObject(o, c); err != nil {
			return err
		}
	}
	return nil
}

func clusterOf(resources []plan.Resource, objects []object) (*cluster, error) {
	c := &cluster{images: manifest.ImagesOf(resources), tokens: map[string]bool{}, least: map[string]int{}, tls: map[string]bool{}}
	for _, o := range objects {
		switch o.kind {
		case "Namespace":
			c.namespace, c.kept = "namespace "+o.name, o.retained()
		case "Gateway":
			for _, l := range fields(o.Inputs).object("spec").list("listeners") {
				c.tls[o.name+"/"+l.text("name")] = len(l.object("tls")) > 0
			}
		case "ServiceAccount":
			var a corev1.ServiceAccount
			if err := o.decode(&a); err != nil {
				return nil, err
			}
			c.tokens[a.Name] = a.AutomountServiceAccountToken == nil || *a.AutomountServiceAccountToken
		case "HorizontalPodAutoscaler":
			var a autoscalingv2.HorizontalPodAutoscaler
			if err := o.decode(&a); err != nil {
				return nil, err
			}
			if a.Spec.MinReplicas != nil {
				c.least[a.Spec.ScaleTargetRef.Kind+"/"+a.Spec.ScaleTargetRef.Name] = int(*a.Spec.MinReplicas)
			}
		case "NetworkPolicy":
			var p networkingv1.NetworkPolicy
			if err := o.decode(&p); err != nil {
				return nil, err
			}
			c.policies = append(c.policies, p)
		}
	}
	return c, nil
}

func (v *View) readObject(o object, c *cluster) error {
	switch o.kind {
	case "Deployment":
		var d appsv1.Deployment
		if err := o.decode(&d); err != nil {
			return err
		}
		v.addPods(o, c, d.Spec.Replicas, d.Spec.Template)
	case "StatefulSet":
		var s appsv1.StatefulSet
		if err := o.decode(&s); err != nil {
			return err
		}
		for _, claim := range s.Spec.VolumeClaimTemplates {
			policy := s.Spec.PersistentVolumeClaimRetentionPolicy
			v.addClaim(o, claim.Name, claim.Spec, c.kept && (policy == nil || policy.WhenDeleted != appsv1.DeletePersistentVolumeClaimRetentionPolicyType))
		}
		v.addPods(o, c, s.Spec.Replicas, s.Spec.Template)
	case "Job":
		var j batchv1.Job
		if err := o.decode(&j); err != nil {
			return err
		}
		v.addPods(o, c, j.Spec.Parallelism, j.Spec.Template)
	case "PersistentVolumeClaim":
		var p corev1.PersistentVolumeClaim
		if err := o.decode(&p); err != nil {
			return err
		}
		v.addClaim(o, p.Name, p.Spec, c.kept && o.retained())
	case "Service":
		var s corev1.Service
		if err := o.decode(&s); err != nil {
			return err
		}
		v.addService(o, s)
	case "Ingress":
		var i networkingv1.Ingress
		if err := o.decode(&i); err != nil {
			return err
		}
		v.addIngress(i)
	case "HTTPRoute":
		v.addHTTPRoute(fields(o.Inputs), c.tls)
	}
	return nil
}

func (v *View) addClaim(o object, name string, spec corev1.PersistentVolumeClaimSpec, retained bool) {
	storage := spec.Resources.Requests[corev1.ResourceStorage]
	v.Volumes = append(v.Volumes, Volume{Resource: o.Name, Name: name, Size: stacks.Bytes(storage.Value()), Retained: retained})
}

// addService adds what a Service opens to other machines.
func (v *View) addService(o object, s corev1.Service) {
	how := ""
	switch s.Spec.Type {
	case corev1.ServiceTypeLoadBalancer:
		how = "load balancer"
	case corev1.ServiceTypeNodePort:
		how = "node port"
	}
	if len(s.Spec.ExternalIPs) > 0 {
		how = "external address"
	}
	if how == "" {
		return
	}
	for _, p := range s.Spec.Ports {
		v.Exposed = append(v.Exposed, Exposure{Service: cmp.Or(o.labels[stacks.LabelService], o.name), How: how, Port: int(p.Port)})
	}
}

func (v *View) addIngress(i networkingv1.Ingress) {
	for _, rule := range i.Spec.Rules {
		if rule.HTTP == nil {
			continue
		}
		for _, p := range rule.HTTP.Paths {
			if p.Backend.Service != nil {
				v.Exposed = append(v.Exposed, Exposure{Service: p.Backend.Service.Name, How: "ingress", Address: rule.Host, TLS: len(i.Spec.TLS) > 0})
			}
		}
	}
}

// addHTTPRoute adds what a route of the Gateway API leads to; one that only redirects leads nowhere.
func (v *View) addHTTPRoute(in fields, tls map[string]bool) {
	spec := in.object("spec")
	hosts, _ := spec["hostnames"].([]any)
	host := ""
	if len(hosts) > 0 {
		host, _ = hosts[0].(string)
	}
	encrypted := false // by a listener of the stack's own gateway
	for _, parent := range spec.list("parentRefs") {
		encrypted = encrypted || tls[parent.text("name")+"/"+parent.text("sectionName")]
	}
	for _, rule := range spec.list("rules") {
		for _, to := range rule.list("backendRefs") {
			v.Exposed = append(v.Exposed, Exposure{Service: to.text("name"), How: "route", Address: host, TLS: encrypted})
		}
	}
}

// addPods adds the pods of a controller.
func (v *View) addPods(o object, c *cluster, replicas *int32, template corev1.PodTemplateSpec) {
	pod := template.Spec
	w := Workload{Service: cmp.Or(template.Labels[stacks.LabelService], o.name), Kind: o.kind, Name: o.name, Replicas: 1}
	w.StopsFirst = o.kind == "StatefulSet" // its pods keep their names, so the old one has to be gone
	if replicas != nil {
		w.Replicas = int(*replicas)
	} else if least, ok := c.least[o.kind+"/"+o.name]; ok {
		w.Replicas = least
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
	if pod.AutomountServiceAccountToken != nil {
		w.Token = *pod.AutomountServiceAccountToken
	} else if token, ok := c.tokens[cmp.Or(pod.ServiceAccountName, "default")]; !ok || token {
		w.Token = true
	}
	w.fence(c.policies, template.Labels)
	sources := podSources(o, pod)
	for i, list := range [][]corev1.Container{pod.InitContainers, pod.Containers} {
		for _, container := range list {
			read := podContainer(container, pod, sources)
			read.Init = i == 0 && (container.RestartPolicy == nil || *container.RestartPolicy != corev1.ContainerRestartPolicyAlways)
			if container.Image == plan.Computed {
				if built, err := c.images.Of(o.Resource, container.Name); err == nil {
					read.Image, read.Built = built, true
				}
			}
			read.Built = read.Built || strings.HasPrefix(read.Image, stacks.Project+"/")
			for name, value := range template.Annotations {
				read.Labels = append(read.Labels, Variable{name, textOf(value)})
			}
			slices.SortFunc(read.Labels, func(a, b Variable) int { return cmp.Compare(a.Name, b.Name) })
			w.Containers = append(w.Containers, read)
			for _, p := range container.Ports {
				if p.HostPort != 0 {
					v.Exposed = append(v.Exposed, Exposure{Service: w.Service, How: "host port", Address: p.HostIP, Port: int(p.HostPort)})
				}
			}
		}
	}
	v.Workloads = append(v.Workloads, w)
}

// fence reads what network policies let the pods do. A direction that no policy is about is open.
func (w *Workload) fence(policies []networkingv1.NetworkPolicy, pod map[string]string) {
	in, out := false, false
	for _, p := range policies {
		selector, err := metav1.LabelSelectorAsSelector(&p.Spec.PodSelector)
		if err != nil || !selector.Matches(labelSet(pod)) {
			continue
		}
		in = in || slices.Contains(p.Spec.PolicyTypes, networkingv1.PolicyTypeIngress)
		out = out || slices.Contains(p.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
		for _, rule := range p.Spec.Egress {
			w.let(rule)
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

// dnsPort is what every pod may ask the cluster's name servers on.
const dnsPort = 53

// let reads one rule: it leads to services of the stack, to the name servers, or out.
func (w *Workload) let(rule networkingv1.NetworkPolicyEgressRule) {
	at := ""
	onlyDNS := len(rule.Ports) > 0
	var numbers []string
	for _, p := range rule.Ports {
		if p.Port == nil {
			onlyDNS = false
			continue
		}
		onlyDNS = onlyDNS && p.Port.IntValue() == dnsPort
		numbers = append(numbers, p.Port.String())
	}
	if len(numbers) > 0 {
		at = " port " + strings.Join(slices.Compact(numbers), ", ")
	}
	if len(rule.To) == 0 {
		w.WaysOut = append(w.WaysOut, "any address"+at)
	}
	for _, to := range rule.To {
		switch {
		case to.IPBlock != nil && (to.IPBlock.CIDR == "0.0.0.0/0" || to.IPBlock.CIDR == "::/0"):
			w.WaysOut = append(w.WaysOut, "any address"+at)
		case to.IPBlock != nil && onlyDNS && strings.HasSuffix(to.IPBlock.CIDR, "/32") && strings.HasPrefix(to.IPBlock.CIDR, "169.254."):
			// the name server on the node itself
		case to.IPBlock != nil:
			w.WaysOut = append(w.WaysOut, to.IPBlock.CIDR+at)
		case to.NamespaceSelector != nil && onlyDNS:
		case to.NamespaceSelector != nil:
			w.WaysOut = append(w.WaysOut, "other namespaces"+at)
		case to.PodSelector != nil && to.PodSelector.MatchLabels[stacks.LabelService] != "":
			w.Calls = append(w.Calls, to.PodSelector.MatchLabels[stacks.LabelService])
		}
	}
}

// labelSet are labels that a selector can be asked about.
type labelSet map[string]string

// Has, Get and Lookup are those of labels.Labels.
func (s labelSet) Has(label string) bool              { _, ok := s[label]; return ok }
func (s labelSet) Get(label string) string            { return s[label] }
func (s labelSet) Lookup(label string) (string, bool) { v, ok := s[label]; return v, ok }

// podSources are what is behind the volumes of a pod, by their names; claims that a controller makes are named by it.
func podSources(o object, pod corev1.PodSpec) map[string]Mount {
	out := map[string]Mount{}
	for _, claim := range fields(o.Inputs).object("spec").list("volumeClaimTemplates") {
		name := claim.object("metadata").text("name")
		out[name] = Mount{Kind: Storage, Source: name}
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
		case v.Secret != nil:
			m.Kind = Secrets
		case v.Projected != nil && slices.ContainsFunc(v.Projected.Sources, func(s corev1.VolumeProjection) bool { return s.Secret != nil }):
			m.Kind = Secrets
		}
		out[v.Name] = m
	}
	return out
}

func podContainer(c corev1.Container, pod corev1.PodSpec, sources map[string]Mount) Container {
	out := Container{Name: c.Name, Image: c.Image, LogBounded: true} // the kubelet bounds it
	for _, word := range slices.Concat(c.Command, c.Args) {
		out.Command = append(out.Command, textOf(word))
	}
	for _, e := range c.Env {
		text := textOf(e.Value)
		text.Secret = text.Secret || e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil
		out.Env = append(out.Env, Variable{e.Name, text})
	}
	for _, from := range c.EnvFrom {
		if from.SecretRef != nil {
			out.Env = append(out.Env, Variable{"everything of the secret " + from.SecretRef.Name, Text{Secret: true}})
		}
	}
	out.secure(c.SecurityContext, pod.SecurityContext)
	out.CPU = stacks.MilliCPU(c.Resources.Limits.Cpu().MilliValue())
	out.Memory = stacks.Bytes(c.Resources.Limits.Memory().Value())
	for name, q := range c.Resources.Limits {
		if strings.Contains(string(name), "/") {
			out.GPU = string(name) + " " + q.String()
		}
	}
	for _, m := range c.VolumeMounts {
		mount := sources[m.Name]
		mount.Target, mount.ReadOnly = m.MountPath, m.ReadOnly || mount.Kind == Files || mount.Kind == Secrets
		out.Mounts = append(out.Mounts, mount)
	}
	for _, d := range c.VolumeDevices {
		out.Devices = append(out.Devices, d.DevicePath)
	}
	out.Health = probeOf(c.LivenessProbe)
	return out
}

// secure reads what the container may do; what it leaves out is the pod's to say.
func (c *Container) secure(own *corev1.SecurityContext, pod *corev1.PodSecurityContext) {
	if own == nil {
		own = &corev1.SecurityContext{}
	}
	if pod == nil {
		pod = &corev1.PodSecurityContext{}
	}
	user, group := cmp.Or(own.RunAsUser, pod.RunAsUser), cmp.Or(own.RunAsGroup, pod.RunAsGroup)
	if user != nil {
		c.User = strconv.FormatInt(*user, 10)
		if group != nil {
			c.User += ":" + strconv.FormatInt(*group, 10)
		}
	}
	c.ReadOnlyRoot = own.ReadOnlyRootFilesystem != nil && *own.ReadOnlyRootFilesystem
	c.Privileged = own.Privileged != nil && *own.Privileged
	c.NewPrivileges = own.AllowPrivilegeEscalation == nil || *own.AllowPrivilegeEscalation
	if own.Capabilities != nil {
		for _, d := range own.Capabilities.Drop {
			c.DroppedCapabilities = append(c.DroppedCapabilities, string(d))
		}
		for _, a := range own.Capabilities.Add {
			c.AddedCapabilities = append(c.AddedCapabilities, strings.TrimPrefix(string(a), "CAP_"))
		}
	}
	slices.Sort(c.DroppedCapabilities)
	slices.Sort(c.AddedCapabilities)
	// A cluster's default is no profile at all.
	if profile := cmp.Or(own.SeccompProfile, pod.SeccompProfile); profile == nil || profile.Type == corev1.SeccompProfileTypeUnconfined {
		c.Unconfined = append(c.Unconfined, "seccomp")
	}
	if profile := cmp.Or(own.AppArmorProfile, pod.AppArmorProfile); profile != nil && profile.Type == corev1.AppArmorProfileTypeUnconfined {
		c.Unconfined = append(c.Unconfined, "apparmor")
	}
}

func probeOf(p *corev1.Probe) []Text {
	switch {
	case p == nil:
		return nil
	case p.Exec != nil:
		var out []Text
		for _, word := range p.Exec.Command {
			out = append(out, textOf(word))
		}
		return out
	case p.HTTPGet != nil:
		return []Text{{Value: "GET"}, textOf(p.HTTPGet.Path)}
	}
	return []Text{{Value: "a probe"}}
}

// textOf tells a secret from a word.
func textOf(s string) Text {
	if isSecret(s) {
		return Text{Secret: true}
	}
	return Text{Value: s}
}
