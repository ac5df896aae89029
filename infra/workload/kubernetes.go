package workload

import (
	"errors"

	"github.com/codexcontinue/codexcontinue/infra/plan"
)

func (v *View) readKubernetes([]plan.Resource) error {
	return errors.New("the target kubernetes cannot be read yet")
}
