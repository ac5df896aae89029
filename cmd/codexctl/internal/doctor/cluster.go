package doctor

import (
	"context"
	"errors"
	"strings"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/cluster"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// onCluster are the checks of a stack on a cluster.
var onCluster = []check{
	{name: "cluster", run: server},
	{name: "settings", run: settings},
	{name: "state", run: state},
	{name: "pulumi", run: pulumi},
	{name: "provider", run: kubernetesProvider},
	{name: "go", run: goVersion},
	{name: "language host", run: languageHost},
	{name: "permissions", run: permissions, cluster: true, stack: true},
	{name: "namespace", run: namespace, cluster: true},
	{name: "quota", run: quota, cluster: true},
	{name: "nodes", run: nodes, cluster: true, stack: true},
	{name: "storage", run: storage, cluster: true, stack: true},
	{name: "GPU", run: clusterGPU, cluster: true, stack: true},
	{name: "route", run: route, cluster: true, stack: true},
	{name: "autoscale", run: autoscale, cluster: true, stack: true},
	{name: "network policy", run: networkPolicy, cluster: true},
	{name: "images", run: images, cluster: true, stack: true},
	{name: "pods", run: pods, cluster: true},
	{name: "certificates", run: certificates, cluster: true, stack: true},
}

// split splits an error's text, which ends in what to do, into what is wrong and what to do.
func split(err error) (what, fix string) {
	what = err.Error()
	if i := strings.LastIndex(what, ": "); i > 0 {
		return what[:i], what[i+2:]
	}
	return what, ""
}

func server(_ context.Context, p *Patient) []Finding {
	if p.Cluster == nil {
		what, fix := split(p.PlatformErr)
		return found(Fail, fix, "%s", strings.TrimPrefix(what, "cluster: "))
	}

	v, err := p.Cluster.Version()
	if err != nil {
		return cannot(err)
	}

	who := ""
	if p.Cluster.User != "" {
		who = ", as " + p.Cluster.User
	}

	return found(OK, "", "%s at %s (context %s)%s", v, p.Cluster.Server, p.Cluster.Context, who)
}

func permissions(ctx context.Context, p *Patient) []Finding {
	missing, err := p.Cluster.Missing(ctx, p.Stack)
	if err != nil {
		return cannot(err)
	}
	if len(missing) == 0 {
		return found(OK, "", "all that this stack needs")
	}

	var names []string
	for _, a := range missing {
		names = append(names, a.String())
	}

	return found(Fail, "ask the cluster's administrator for a role that allows it",
		"missing in %s: %s", p.Cluster.Namespace, strings.Join(names, ", "))
}

func namespace(ctx context.Context, p *Patient) []Finding {
	if err := p.Cluster.CheckNamespace(ctx); err != nil {
		return failed(err)
	}

	state, err := p.Cluster.NamespaceState(ctx)
	if err != nil {
		return cannot(err)
	}
	if state == "absent" {
		return found(OK, "", "%s is free: the first up makes it", p.Cluster.Namespace)
	}

	return found(OK, "", "%s, %s", p.Cluster.Namespace, state)
}

func quota(ctx context.Context, p *Patient) []Finding {
	list, err := p.Cluster.Quotas(ctx)
	if err != nil {
		return cannot(err)
	}

	var out []Finding
	for _, q := range list {
		if full := cluster.UsedUp(q); len(full) > 0 {
			out = append(out,
				found(Warn,
					"an update starts new pods before it stops old ones: raise the quota, or ask for less",
					"%s is used up: %s", q.Name, strings.Join(full, ", "))...)
		}
	}

	if len(out) == 0 {
		return found(OK, "", "%d quotas, none used up", len(list))
	}

	return out
}

func nodes(ctx context.Context, p *Patient) []Finding {
	list, err := p.Cluster.Nodes(ctx)
	switch {
	case err != nil:
		return cannot(err)
	case list == nil:
		return found(Skip, "", "you may not list them")
	}

	ready, name := 0, ""
	var most stacks.Bytes
	for _, n := range list {
		for _, c := range n.Status.Conditions {
			if c.Type == "Ready" && c.Status == "True" && !n.Spec.Unschedulable {
				ready++
			}
		}
		most = max(most, stacks.Bytes(n.Status.Allocatable.Memory().Value()))
	}

	var greatest stacks.Bytes
	for _, s := range p.Stack.Services {
		if s.Resources.Memory > greatest {
			greatest, name = s.Resources.Memory, s.Name
		}
	}

	switch {
	case ready == 0:
		return found(Fail, "see `kubectl get nodes`", "none of %d is ready", len(list))
	case greatest > most:
		return found(Warn,
			"lower codexcontinue:services: {"+name+": {memory: ...}}, or add a larger node",
			"%s may use %s, the largest node gives %s", name, greatest, most)
	}

	return found(OK, "", "%d of %d ready", ready, len(list))
}

func storage(ctx context.Context, p *Patient) []Finding {
	classes, byDefault, err := p.Cluster.StorageClasses(ctx)
	switch {
	case err != nil:
		return cannot(err)
	case classes == nil:
		return found(Skip, "", "you may not list storage classes")
	}

	if err := p.Cluster.CheckStorage(ctx, p.Stack); err != nil {
		var out []Finding
		for line := range strings.Lines(err.Error()) {
			out = append(out, failed(errors.New(strings.TrimRight(line, "\n")))...)
		}
		return out
	}

	var used []string
	for _, v := range p.Stack.Volumes {
		class := v.Class
		if class == "" {
			class = byDefault + " (the default)"
		}

		used = append(used, v.Name+" on "+class)
		if v.Shared {
			used[len(used)-1] += ", which has to offer ReadWriteMany: that cannot be asked for"
		}
	}

	return found(OK, "", "%s", strings.Join(used, ", "))
}

func clusterGPU(ctx context.Context, p *Patient) []Finding {
	var out []Finding
	for _, s := range p.Stack.Services {
		if s.GPU == nil {
			continue
		}

		if err := p.Cluster.CheckRuntimeClass(ctx, p.Stack); err != nil {
			out = append(out, failed(err)...)
		}

		list, err := p.Cluster.Nodes(ctx)
		if err != nil {
			return append(out, cannot(err)...)
		}
		if list == nil {
			return append(out, found(Skip, "", "you may not list nodes")...)
		}

		have, on, name := cluster.GPUs(list, *s.GPU)
		need := int64(max(s.GPU.Count, 1))
		if have < need {
			out = append(out,
				found(Fail,
					"install the device plugin (GPU operator), correct codexcontinue:gpu "+
						"(resource, nodeSelector, tolerations), or take it out; an autoscaler "+
						"that adds GPU nodes makes this right by itself",
					"%s asks for %d of %s, the nodes that it may be on have %d", s.Name, need, name,
					have)...)

			continue
		}

		out = append(out,
			found(OK, "",
				"%s asks for %d of %s, %d nodes have %d", s.Name, need, name, on, have)...)
	}

	if len(out) == 0 {
		return found(OK, "", "the stack asks for none")
	}

	return out
}

func route(ctx context.Context, p *Patient) []Finding {
	r := p.Stack.Route
	if r == nil {
		return found(OK, "", "none: `codexctl forward %s` reaches the edge", p.Name)
	}

	if err := p.Cluster.CheckRoute(ctx, p.Stack); err != nil {
		return failed(err)
	}

	by := "the Gateway API"
	if r.Ingress != nil {
		by = "an Ingress"
	}

	return found(OK, "", "%s by %s, which is there", r.Host, by)
}

func autoscale(_ context.Context, p *Patient) []Finding {
	var names []string
	for _, s := range p.Stack.Services {
		if s.Autoscale != nil {
			names = append(names, s.Name)
		}
	}

	if len(names) == 0 {
		return found(OK, "", "no service follows the load")
	}

	ok, err := p.Cluster.HasAPI(cluster.MetricsAPI)
	if err != nil {
		return cannot(err)
	}

	if !ok {
		return found(Fail, "install metrics-server",
			"%s should follow the load, but the cluster does not measure it (metrics.k8s.io)",
			strings.Join(names, ", "))
	}

	return found(OK, "", "%s follow the load, and the cluster measures it",
		strings.Join(names, ", "))
}

// networkPolicy reports what is known: no API tells whether policies are enforced.
func networkPolicy(ctx context.Context, p *Patient) []Finding {
	const fix = "make sure that the network plugin enforces NetworkPolicies (Calico, Cilium, " +
		"...): without that every pod of the cluster can reach the stack's"
	plugins, err := p.Cluster.NetworkPlugins(ctx)
	switch {
	case err != nil:
		return cannot(err)
	case plugins == nil:
		return found(Warn, fix, "no network plugin that is known to enforce them was seen")
	}

	for _, name := range plugins {
		if cluster.Enforces(name) {
			return found(OK, "", "%s is there, which enforces them unless it is told not to", name)
		}
	}

	return found(Warn, fix, "%s is there, which does not enforce them by itself",
		strings.Join(plugins, ", "))
}

func images(ctx context.Context, p *Patient) []Finding {
	if p.Stack.Registry != "" {
		return found(OK, "", "built ones come from %s", p.Stack.Registry)
	}
	if p.ImagesErr != nil {
		return cannot(p.ImagesErr)
	}

	list, err := p.Cluster.Nodes(ctx)
	switch {
	case err != nil:
		return cannot(err)
	case list == nil:
		return found(Skip, "", "you may not list nodes, which tell")
	}

	var missing, unknown []string
	for _, ref := range p.Images {
		switch has, sure := cluster.HasImage(list, ref); {
		case has:
		case sure:
			missing = append(missing, ref)
		default:
			unknown = append(unknown, ref)
		}
	}

	switch {
	case len(missing) > 0:
		return found(Warn,
			"codexctl images load "+p.Name+
				"; or name a registry: codexcontinue:registry (nodes tell half a minute late "+
				"what they have)",
			"not every node has %s", strings.Join(missing, ", "))
	case len(unknown) > 0:
		return found(Skip, "", "the nodes have too many images to tell whether %s are there",
			strings.Join(unknown, ", "))
	}

	return found(OK, "", "the nodes have all %d that are built", len(p.Images))
}
