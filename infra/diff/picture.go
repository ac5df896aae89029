package diff

import (
	"slices"

	"github.com/codexcontinue/codexcontinue/infra/graph"
	"github.com/codexcontinue/codexcontinue/infra/workload"
)

// picture returns the Mermaid flowchart of the plan after the change, where the change adds or
// takes away a service, a network, a volume or a way between them; empty otherwise.
func picture(before, after workload.View) string {
	if len(after.Workloads) == 0 || graph.Mermaid(topology(before)) == graph.Mermaid(topology(after)) {
		return ""
	}
	return graph.Mermaid(after)
}

// topology returns the view without what services and volumes say of themselves: images, limits,
// sizes, how many replicas.
func topology(v workload.View) workload.View {
	v.Workloads, v.Volumes = slices.Clone(v.Workloads), slices.Clone(v.Volumes)
	for i := range v.Workloads {
		w := &v.Workloads[i]
		w.Kind, w.Replicas, w.WaysOut = "", 0, nil
		w.Containers = slices.Clone(w.Containers)
		for j, c := range w.Containers {
			w.Containers[j] = workload.Container{Mounts: c.Mounts}
		}
	}

	for i := range v.Volumes {
		v.Volumes[i].Size = 0
	}

	return v
}
