package docker

import (
	"fmt"
	"maps"
	"slices"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// environment renders the container's variables: those of the contract, of Env and of the GPU request, as sorted
// KEY=VALUE. A variable that two of them set is an error.
func environment(svc stacks.Service, gpu gpuPlan) ([]string, error) {
	vars, err := renderContract(svc.Contract)
	if err != nil {
		return nil, fmt.Errorf("contract: %w", err)
	}
	for _, more := range []map[string]string{svc.Env, gpu.env} {
		for k, v := range more {
			if _, set := vars[k]; set {
				return nil, fmt.Errorf("env.%s: is set twice", k)
			}
			vars[k] = v
		}
	}
	out := make([]string, 0, len(vars))
	for _, k := range slices.Sorted(maps.Keys(vars)) {
		out = append(out, k+"="+vars[k])
	}
	return out, nil
}

func renderContract(c any) (map[string]string, error) {
	switch c := c.(type) {
	case nil:
		return map[string]string{}, nil
	case contract.Backend:
		return contract.Render(c)
	case contract.Frontend:
		return contract.Render(c)
	case contract.ML:
		return contract.Render(c)
	}
	return nil, fmt.Errorf("%T is none of the contracts of services/contract", c)
}
