package docker

import (
	"maps"
	"slices"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// environment is the service's environment with the variables of its GPU request, as sorted KEY=VALUE.
func environment(svc stacks.Service, gpu gpuPlan) ([]string, error) {
	vars, err := svc.Environment(gpu.env)
	if err != nil {
		return nil, err
	}
	out := make([]string, 0, len(vars))
	for _, k := range slices.Sorted(maps.Keys(vars)) {
		out = append(out, k+"="+vars[k])
	}
	return out, nil
}
