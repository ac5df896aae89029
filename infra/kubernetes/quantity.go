package kubernetes

import (
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Quantities are written as the API server writes them back ("1", never "1000m"): another spelling
// would show as a change after every refresh.

func cpuQuantity(c stacks.MilliCPU) resource.Quantity {
	return *resource.NewMilliQuantity(int64(c), resource.DecimalSI)
}

func byteQuantity(b stacks.Bytes) resource.Quantity {
	return *resource.NewQuantity(int64(b), resource.BinarySI)
}

func countQuantity(n int) resource.Quantity {
	return *resource.NewQuantity(int64(n), resource.DecimalSI)
}

// seconds rounds up: a limit in whole seconds is never shorter than asked for.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }
