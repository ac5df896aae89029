package kubernetes

import (
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Quantities are written as the API server writes them back ("1", never "1000m"): another spelling would show as a
// change after every refresh.

func cpuQuantity(c stacks.MilliCPU) string {
	return resource.NewMilliQuantity(int64(c), resource.DecimalSI).String()
}

func byteQuantity(b stacks.Bytes) string {
	return resource.NewQuantity(int64(b), resource.BinarySI).String()
}

func countQuantity(n int) string { return resource.NewQuantity(int64(n), resource.DecimalSI).String() }

// seconds rounds up: a limit in whole seconds is never shorter than asked for.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }
