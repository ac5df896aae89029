package stacks

import (
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/codexcontinue/codexcontinue/services/contract"
)

// StartOrder returns the services sorted so that each comes after those that it depends on, else in
// the stack's own order. It reports every circle.
func (s Stack) StartOrder() ([]Service, error) {
	var out []Service
	var errs []error
	state := map[string]int{} // 1: on the trail, 2: done
	var visit func(svc Service, trail []string)
	visit = func(svc Service, trail []string) {
		trail = append(trail, svc.Name)
		switch state[svc.Name] {
		case 1:
			errs = append(errs, fmt.Errorf("services.%s.dependsOn: "+
				"the services wait for each other in a circle: %s",
				svc.Name, strings.Join(trail, " -> ")))
			return
		case 2:
			return
		}

		state[svc.Name] = 1
		for _, name := range svc.DependsOn {
			d := s.Service(name)
			if d == nil {
				errs = append(errs, fmt.Errorf("services.%s.dependsOn: there is no service %q",
					svc.Name, name))
				continue
			}
			visit(*d, trail)
		}

		state[svc.Name] = 2
		out = append(out, svc)
	}

	for _, svc := range s.Services {
		visit(svc, nil)
	}

	if err := errors.Join(errs...); err != nil {
		return nil, err
	}

	return out, nil
}

// Environment returns the container's environment: the variables of the contract, of Env, and of
// the target's own. A variable that two of them set is an error, with the field below the service.
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
