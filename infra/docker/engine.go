package docker

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/config"
)

// hookName names the hook in the state; do not change it.
const hookName = "codexcontinue-container-limits"

// addHook registers what runs after each container was created or updated. The provider has no
// argument for the limit of processes and threads, so the hook sets it through the engine's API.
// The limit stands in the plan as the label LabelPIDs, whose change replaces the container.
func (d *deployment) addHook() error {
	hook, err := d.ctx.RegisterResourceHook(hookName, func(args *pulumi.ResourceHookArgs) error {
		api, err := newClient(engineHost(d.ctx))
		if err != nil {
			return fmt.Errorf("%s: %w", args.Name, err)
		}
		defer api.Close()

		if err := limitProcesses(d.ctx.Context(), api, string(args.ID), args.NewInputs); err != nil {
			return fmt.Errorf("%s: %w", args.Name, err)
		}

		return nil
	}, nil)

	d.hook = hook
	return err
}

// engineHost returns docker:host of the config, empty when it is not set.
func engineHost(ctx *pulumi.Context) string { return config.New(ctx, "docker").Get("host") }

// newClient connects to the engine that the provider uses: docker:host of the config, else
// DOCKER_HOST and its companions, else the default socket. The first call agrees with it
// on the API's version.
func newClient(host string) (*client.Client, error) {
	opts := []client.Opt{client.FromEnv}
	if host != "" {
		opts = append(opts, client.WithHost(host))
	}

	api, err := client.New(opts...)
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}

	if strings.HasPrefix(api.DaemonHost(), "ssh://") {
		return nil, fmt.Errorf("engine: cannot talk to the engine through %s: forward its socket "+
			"and set DOCKER_HOST to that",
			api.DaemonHost())
	}

	return api, nil
}

// limitProcesses sets the pids limit of the container.
func limitProcesses(
	ctx context.Context, api *client.Client, id string, inputs resource.PropertyMap,
) error {
	limit, err := pidsLimit(inputs)
	if err != nil {
		return err
	}

	_, err = api.ContainerUpdate(ctx, id,
		client.ContainerUpdateOptions{Resources: &container.Resources{PidsLimit: &limit}})
	if err != nil {
		return fmt.Errorf("set the pids limit: %w", err)
	}

	return nil
}

func pidsLimit(inputs resource.PropertyMap) (int64, error) {
	labels := inputs["labels"]
	if labels.IsArray() {
		for _, l := range labels.ArrayValue() {
			if l.IsObject() && l.ObjectValue()["label"].IsString() &&
				l.ObjectValue()["label"].StringValue() == LabelPIDs {
				return strconv.ParseInt(l.ObjectValue()["value"].StringValue(), 10, 64)
			}
		}
	}

	return 0, fmt.Errorf("the container has no label %s", LabelPIDs)
}
