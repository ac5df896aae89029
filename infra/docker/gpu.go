package docker

import (
	"errors"
	"strconv"
	"strings"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/compose-spec/compose-go/v2/types"
)

// gpuDevices asks compose for the GPUs. A count n is the devices 0 to n-1, which is how the engine
// itself counts them.
func gpuDevices(g *stacks.GPU) ([]types.DeviceRequest, error) {
	if g == nil {
		return nil, nil
	}
	if g.Count != 0 && len(g.Devices) > 0 {
		return nil, errors.New("gpu: set count or devices, not both")
	}

	d := types.DeviceRequest{
		Driver:       "nvidia",
		Capabilities: []string{"gpu", "compute", "utility"},
		IDs:          g.Devices,
	}
	if g.Count == stacks.AllGPUs {
		d.Count = stacks.AllGPUs
		return []types.DeviceRequest{d}, nil
	}

	for i := range g.Count {
		d.IDs = append(d.IDs, strconv.Itoa(i))
	}

	if len(d.IDs) == 0 {
		return nil, errors.New("gpu: asks for no device: set count (-1 for all) or devices, or " +
			"leave gpu out")
	}

	return []types.DeviceRequest{d}, nil
}

// nvidia returns the variables that ask the NVIDIA runtime for single devices; all of them are the
// provider's gpus argument, and need none.
//
// The provider passes that argument through Docker's own option parser, but reads every value back
// as "all": any other value would differ for ever, and ignoring that would turn a replacement after
// a refresh into a grant of all GPUs. So only "all" goes that way; a list names the devices to the
// NVIDIA runtime, exactly as the engine does itself. See docs/adr/0002-docker-target.md.
func nvidia(devices []types.DeviceRequest) map[string]string {
	for _, d := range devices {
		if len(d.IDs) > 0 {
			return map[string]string{
				"NVIDIA_VISIBLE_DEVICES":     strings.Join(d.IDs, ","),
				"NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
			}
		}
	}

	return nil
}

// devices returns those that the container asks for.
func devices(c types.ServiceConfig) []types.DeviceRequest {
	if c.Deploy == nil || c.Deploy.Resources.Reservations == nil {
		return nil
	}
	return c.Deploy.Resources.Reservations.Devices
}
