package targets_test

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// pods are those of a Deployment or a StatefulSet.
type pods struct {
	replicas int32
	template corev1.PodTemplateSpec

	// claims are the names of what each pod claims for itself.
	claims []string
}

// cluster is a plan for a cluster.
type cluster struct {
	recording
	pods     map[string]pods // by service
	services map[string]*corev1.Service
	configs  map[string]*corev1.ConfigMap
	policies []*networkingv1.NetworkPolicy
}

// kubernetesFacts reads a plan for a cluster.
func kubernetesFacts(t *testing.T, rec recording) facts {
	t.Helper()
	c := cluster{recording: rec, pods: map[string]pods{}, services: map[string]*corev1.Service{},
		configs: map[string]*corev1.ConfigMap{}}
	f := facts{}
	all := byRef(rec.resources)
	for _, r := range rec.resources {
		if !strings.HasPrefix(r.Type, "kubernetes:") {
			continue
		}

		switch x := typed(t, r, all).(type) {
		case *appsv1.Deployment:
			c.pods[x.Spec.Template.Labels[stacks.LabelService]] = pods{
				replicas: count(x.Spec.Replicas),
				template: x.Spec.Template,
			}
		case *appsv1.StatefulSet:
			p := pods{replicas: count(x.Spec.Replicas), template: x.Spec.Template}
			for _, claim := range x.Spec.VolumeClaimTemplates {
				p.claims = append(p.claims, claim.Name)
			}
			c.pods[x.Spec.Template.Labels[stacks.LabelService]] = p
		case *batchv1.Job:
			f.set(x.Spec.Template.Labels[stacks.LabelService]+"/kind", "Job")
		case *corev1.Service:
			c.services[x.Name] = x
		case *corev1.ConfigMap:
			c.configs[x.Name] = x
		case *networkingv1.NetworkPolicy:
			c.policies = append(c.policies, x)
		case *autoscalingv2.HorizontalPodAutoscaler:
			f.set(x.Spec.ScaleTargetRef.Name+"/scaled", "by the load")
		}
	}

	for service, p := range c.pods {
		f.set(service+"/replicas", strconv.Itoa(int(p.replicas)))
		if len(p.template.Spec.Containers) != 1 || len(p.template.Spec.InitContainers) > 0 {
			t.Errorf("%s has pods of several containers, of which one is compared", service)
		}
		c.add(t, f, service, p)
		c.addMounts(t, f, service, p)
		c.addReach(t, f, service, p)
	}

	c.addOrder(f)
	return f
}

func count(n *int32) int32 {
	if n == nil {
		return -1 // somebody else's to set
	}
	return *n
}

func (c cluster) add(t *testing.T, f facts, service string, p pods) {
	t.Helper()
	pod, own := p.template.Spec, p.template.Spec.Containers[0]
	f.set(service+"/image", own.Image)
	f.set(service+"/command", words(slices.Concat(own.Command, own.Args)))
	variables := map[string]string{}
	for _, e := range own.Env {
		variables[e.Name] = e.Value
	}

	f.addEnvironment(service, variables)
	f.set(service+"/cpu", fmt.Sprint(own.Resources.Limits.Cpu().MilliValue(), "m"))
	f.set(service+"/memory",
		fmt.Sprint(own.Resources.Limits.Memory().Value()/int64(stacks.MiB), "Mi"))
	f.set(service+"/swap",
		"false") // a node that starts with swap has to be told to give it to pods (NodeSwap)
	s := own.SecurityContext
	f.set(service+"/user", fmt.Sprintf("%d:%d", *s.RunAsUser, *s.RunAsGroup))
	f.set(service+"/read-only root", fmt.Sprint(*s.ReadOnlyRootFilesystem))
	f.set(service+"/privileged", fmt.Sprint(*s.Privileged))
	f.set(service+"/new privileges", fmt.Sprint(*s.AllowPrivilegeEscalation))
	var drops, adds []string
	for _, d := range s.Capabilities.Drop {
		drops = append(drops, string(d))
	}

	for _, a := range s.Capabilities.Add {
		adds = append(adds, string(a))
	}

	f.set(service+"/capabilities", capabilities(drops, adds))
	grace := *pod.TerminationGracePeriodSeconds
	if own.Lifecycle != nil { // the kubelet counts the sleep in
		grace -= own.Lifecycle.PreStop.Sleep.Seconds
	}

	f.set(service+"/stop grace", fmt.Sprint(grace, "s"))
	live, ready := own.LivenessProbe, own.ReadinessProbe
	f.set(service+"/health/asks", asks(t, own, live))
	f.set(service+"/health/asks", asks(t, own, own.StartupProbe))
	f.set(service+"/ready/asks", asks(t, own, ready))
	f.set(service+"/health/every", (time.Duration(ready.PeriodSeconds) * time.Second).String())
	for _, probe := range []*corev1.Probe{live, ready, own.StartupProbe} {
		f.set(service+"/health/timeout",
			(time.Duration(probe.TimeoutSeconds) * time.Second).String())
	}

	f.set(service+"/health/retries", strconv.Itoa(int(live.FailureThreshold)))
	f.set(service+"/health/retries", strconv.Itoa(int(ready.FailureThreshold)))
}

// asks returns what the probe asks, at the number of the port.
func asks(t *testing.T, c corev1.Container, p *corev1.Probe) string {
	t.Helper()
	if p.Exec != nil {
		return words(p.Exec.Command)
	}
	return fmt.Sprintf("GET %s at %d", p.HTTPGet.Path, portOf(t, c, p.HTTPGet.Port.String()))
}

// portOf returns the container's port of the name, or the number.
func portOf(t *testing.T, c corev1.Container, port string) int {
	t.Helper()
	for _, p := range c.Ports {
		if p.Name == port {
			return int(p.ContainerPort)
		}
	}

	n, err := strconv.Atoi(port)
	if err != nil {
		t.Errorf("the container %s has no port %s", c.Name, port)
	}

	return n
}

func (c cluster) addMounts(t *testing.T, f facts, service string, p pods) {
	t.Helper()
	own := p.template.Spec.Containers[0]
	for _, m := range own.VolumeMounts {
		at := service + "/mount " + m.MountPath
		if slices.Contains(p.claims, m.Name) {
			f.set(at, fmt.Sprintf("volume %s, read-only %v", m.Name, m.ReadOnly))
			continue
		}

		i := slices.IndexFunc(p.template.Spec.Volumes, func(v corev1.Volume) bool {
			return v.Name == m.Name
		})
		if i < 0 {
			t.Errorf("%s mounts %s, which its pods do not have", service, m.Name)
			continue
		}

		switch v := p.template.Spec.Volumes[i]; {
		case v.EmptyDir != nil:
			f.set(at, fmt.Sprintf("%s of %d bytes, read-only %v",
				strings.ToLower(string(v.EmptyDir.Medium)), v.EmptyDir.SizeLimit.Value(),
				m.ReadOnly))
			f.set(service+"/programs in "+m.MountPath, "true")
		case v.ConfigMap != nil:
			for _, item := range v.ConfigMap.Items {
				f.set(service+"/file "+path.Join(m.MountPath, item.Path),
					digest(c.content(t, v.ConfigMap.Name, item.Key)))
			}
		case v.Projected != nil && m.ReadOnly:
			for _, s := range v.Projected.Sources {
				if s.ConfigMap != nil {
					for _, item := range s.ConfigMap.Items {
						f.set(service+"/file "+path.Join(m.MountPath, item.Path),
							digest(c.content(t, s.ConfigMap.Name, item.Key)))
					}
				}

				if s.Secret != nil {
					for _, item := range s.Secret.Items {
						f.set(service+"/file "+path.Join(m.MountPath, item.Path),
							digest(c.files[service][item.Key]))
					}
				}
			}
		default:
			f.set(at, "something else")
		}
	}
}

func (c cluster) content(t *testing.T, config, key string) string {
	t.Helper()
	m := c.configs[config]
	if m == nil {
		t.Errorf("there is no ConfigMap %s", config)
		return ""
	}

	if text, ok := m.Data[key]; ok {
		return text
	}

	return string(m.BinaryData[key])
}

// addReach adds whom the policies let the service call under its name, what they let out,
// and how people get in.
func (c cluster) addReach(t *testing.T, f facts, service string, p pods) {
	t.Helper()
	var calls []string
	for other, theirs := range c.pods {
		if other == service || other == stacks.Resolver { // which all ask, for names
			continue
		}

		object := c.services[other]
		if object == nil {
			continue
		}

		for _, port := range object.Spec.Ports {
			inside := portOf(t, theirs.template.Spec.Containers[0], port.TargetPort.String())
			selector := labels.SelectorFromSet(object.Spec.Selector)
			if !selector.Matches(labels.Set(theirs.template.Labels)) ||
				!c.egress(p, theirs, inside) || !c.ingress(theirs, &p, inside) {
				continue
			}

			calls = append(calls, fmt.Sprintf("%s:%d", other, port.Port))
			f.set(service+"/may reach "+other, "yes")
		}
	}

	f.set(service+"/calls", words(unique(calls)))
	f.set(service+"/leaves to", c.leaves(p))
	object := c.services[service]
	if object == nil {
		return
	}

	for _, port := range object.Spec.Ports {
		inside := portOf(t, p.template.Spec.Containers[0], port.TargetPort.String())
		if !c.ingress(p, nil, inside) {
			continue
		}

		who := "this machine" // of whoever forwards a port of it
		if object.Spec.Type != corev1.ServiceTypeClusterIP {
			who = "everybody"
		}

		f.set(service+"/published", fmt.Sprintf("to %s at %d for %d", who, port.Port, inside))
	}
}

// about returns the policies for the pods in the direction; none means that
// everything is let through.
func (c cluster) about(p pods, direction networkingv1.PolicyType) []*networkingv1.NetworkPolicy {
	var out []*networkingv1.NetworkPolicy
	for _, n := range c.policies {
		if selects(&n.Spec.PodSelector, p) && slices.Contains(n.Spec.PolicyTypes, direction) {
			out = append(out, n)
		}
	}
	return out
}

func selects(s *metav1.LabelSelector, p pods) bool {
	selector, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && selector.Matches(labels.Set(p.template.Labels))
}

// lets reports whether a rule for the peers and ports is about the pods (nil: about anybody) at the
// port.
func lets(
	peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort, p *pods,
	port int,
) bool {
	if len(ports) > 0 && !slices.ContainsFunc(ports, func(x networkingv1.NetworkPolicyPort) bool {
		return x.Port != nil && x.Port.IntValue() == port
	}) {
		return false
	}

	if len(peers) == 0 {
		return true
	}

	return p != nil && slices.ContainsFunc(peers, func(x networkingv1.NetworkPolicyPeer) bool {
		return x.PodSelector != nil && x.NamespaceSelector == nil && selects(x.PodSelector, *p)
	})
}

func (c cluster) egress(from, to pods, port int) bool {
	list := c.about(from, networkingv1.PolicyTypeEgress)
	for _, n := range list {
		for _, rule := range n.Spec.Egress {
			if lets(rule.To, rule.Ports, &to, port) {
				return true
			}
		}
	}

	return len(list) == 0
}

// ingress reports whether the pods let others in: from nil, anybody.
func (c cluster) ingress(to pods, from *pods, port int) bool {
	list := c.about(to, networkingv1.PolicyTypeIngress)
	for _, n := range list {
		for _, rule := range n.Spec.Ingress {
			if lets(rule.From, rule.Ports, from, port) {
				return true
			}
		}
	}

	return len(list) == 0
}

// leaves returns the addresses and ports that the pods reach beyond the cluster; name
// servers are not among them.
func (c cluster) leaves(p pods) string {
	list := c.about(p, networkingv1.PolicyTypeEgress)
	if len(list) == 0 {
		return "anywhere"
	}

	var out []string
	for _, n := range list {
		for _, rule := range n.Spec.Egress {
			if len(rule.To) == 0 {
				out = append(out, "anywhere")
			}

			for _, to := range rule.To {
				if to.IPBlock == nil {
					continue
				}

				for _, port := range rule.Ports {
					if port.Port.IntValue() != 53 {
						out = append(out, to.IPBlock.CIDR+" port "+port.Port.String())
					}
				}
			}
		}
	}

	if len(out) == 0 {
		return "nowhere"
	}

	return strings.Join(unique(out), ", ")
}

// addOrder adds which services each one waits for.
func (c cluster) addOrder(f facts) {
	workloads := map[string]string{} // the service by "type name"
	for _, r := range c.resources {
		if strings.HasPrefix(r.Type, "kubernetes:apps/v1:") {
			workloads[r.Type+" "+r.Name] = r.Name
		}
	}

	for _, ref := range slices.Sorted(maps.Keys(workloads)) {
		for _, r := range c.resources {
			if r.Type+" "+r.Name != ref {
				continue
			}

			var waits []string
			for _, d := range r.Options.DependsOn {
				if of := workloads[d]; of != "" {
					waits = append(waits, of)
				}
			}

			f.set(workloads[ref]+"/waits for", words(unique(waits)))
		}
	}
}
