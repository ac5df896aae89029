package stacks

import (
	"errors"
	"fmt"
	"maps"

	"github.com/codexcontinue/codexcontinue/services/contract"
)

// StartOrder sorts the services so that each comes after those it depends on, else in the stack's own order.
func (s Stack) StartOrder() ([]Service, error) {
	byName := map[string]Service{}
	for _, svc := range s.Services {
		byName[svc.Name] = svc
	}
	var out []Service
	state := map[string]int{} // 1: on the path, 2: done
	var visit func(svc Service) error
	visit = func(svc Service) error {
		switch state[svc.Name] {
		case 1:
			return fmt.Errorf("services.%s.dependsOn: the services wait for each other in a circle", svc.Name)
		case 2:
			return nil
		}
		state[svc.Name] = 1
		for _, dep := range svc.DependsOn {
			d, ok := byName[dep]
			if !ok {
				return fmt.Errorf("services.%s.dependsOn: there is no service %q", svc.Name, dep)
			}
			if err := visit(d); err != nil {
				return err
			}
		}
		state[svc.Name] = 2
		out = append(out, svc)
		return nil
	}
	for _, svc := range s.Services {
		if err := visit(svc); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Environment is the container's environment: the variables of the contract, of Env, and of the target's own. A variable
// that two of them set is an error, with the field below the service.
func (s Service) Environment(own map[string]string) (map[string]string, error) {
	vars := map[string]string{}
	if s.Contract != nil {
		var err error
		if vars, err = contract.Render(s.Contract); err != nil {
			return nil, fmt.Errorf("contract: %w", err)
		}
	}

	var errs []error
	for _, more := range []map[string]string{s.Env, own} {
		for name := range more {
			if _, set := vars[name]; set {
				errs = append(errs, fmt.Errorf("env.%s: is set twice", name))
			}
		}
		maps.Copy(vars, more)
	}
	return vars, errors.Join(errs...)
}
