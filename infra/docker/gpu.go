package docker

import (
	"errors"
	"strconv"
	"strings"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// gpuPlan is a GPU request in the provider's arguments.
type gpuPlan struct {
	// gpus is the provider's gpus argument, or empty.
	gpus string
	// runtime and env ask the NVIDIA runtime instead, or are empty.
	runtime string
	env     map[string]string
}

// planGPU maps a GPU request. The provider passes its gpus argument through Docker's own option parser, but reads
// every value back as "all": any other value would differ for ever, and ignoring that would turn a replacement after
// a refresh into a grant of all GPUs. So only "all" goes that way; a count or a list names the devices to the NVIDIA
// runtime, exactly as the engine does itself for such a request (a count n is the devices 0 to n-1).
// See docs/adr/0002-docker-target.md.
func planGPU(g *stacks.GPU) (gpuPlan, error) {
	switch {
	case g == nil:
		return gpuPlan{}, nil
	case g.Count != 0 && len(g.Devices) > 0:
		return gpuPlan{}, errors.New("gpu: set count or devices, not both")
	case g.Count == stacks.AllGPUs:
		return gpuPlan{gpus: "all"}, nil
	}
	devices := g.Devices
	for i := range g.Count {
		devices = append(devices, strconv.Itoa(i))
	}
	if len(devices) == 0 {
		return gpuPlan{}, errors.New("gpu: asks for no device: set count (-1 for all) or devices, or leave gpu out")
	}
	return gpuPlan{runtime: "nvidia", env: map[string]string{
		"NVIDIA_VISIBLE_DEVICES":     strings.Join(devices, ","),
		"NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
	}}, nil
}
