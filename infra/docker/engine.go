package docker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/config"
)

// hookName names the hook in the state; do not change it.
const hookName = "codexcontinue-container-limits"

// addHook registers what runs after each container was created or updated: what the provider cannot do.
//
//   - It has no argument for the limit of processes and threads, so the hook sets it through the engine's API. The limit
//     stands in the plan as the label LabelPIDs, whose change replaces the container.
//   - It waits for health on create only: a container that did not get healthy would pass the gate on the next `up`.
func (d *deployment) addHook() error {
	host := config.New(d.ctx, "docker").Get("host")
	hook, err := d.ctx.RegisterResourceHook(hookName, func(args *pulumi.ResourceHookArgs) error {
		api, err := newClient(host)
		if err != nil {
			return fmt.Errorf("%s: %w", args.Name, err)
		}
		defer api.Close()
		if err := finishContainer(d.ctx.Context(), api, string(args.ID), args.NewInputs); err != nil {
			return fmt.Errorf("%s: %w", args.Name, err)
		}
		return nil
	}, nil)
	d.hook = hook
	return err
}

// newClient connects to the engine that the provider uses: docker:host of the config, else DOCKER_HOST and its
// companions, else the default socket. The first call agrees with it on the API's version.
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
		return nil, fmt.Errorf("engine: cannot set the pids limit through %s: forward its socket and set DOCKER_HOST to that", api.DaemonHost())
	}
	return api, nil
}

// finishContainer sets the pids limit and waits until the container is healthy.
func finishContainer(ctx context.Context, api *client.Client, id string, inputs resource.PropertyMap) error {
	limit, err := pidsLimit(inputs)
	if err != nil {
		return err
	}
	_, err = api.ContainerUpdate(ctx, id, client.ContainerUpdateOptions{Resources: &container.Resources{PidsLimit: &limit}})
	if err != nil {
		return fmt.Errorf("set the pids limit: %w", err)
	}
	timeout := time.Minute
	if v := inputs["waitTimeout"]; v.IsNumber() {
		timeout = time.Duration(v.NumberValue()) * time.Second
	}
	return waitHealthy(ctx, api, id, timeout)
}

func pidsLimit(inputs resource.PropertyMap) (int64, error) {
	labels := inputs["labels"]
	if labels.IsArray() {
		for _, l := range labels.ArrayValue() {
			if l.IsObject() && l.ObjectValue()["label"].IsString() && l.ObjectValue()["label"].StringValue() == LabelPIDs {
				return strconv.ParseInt(l.ObjectValue()["value"].StringValue(), 10, 64)
			}
		}
	}
	return 0, fmt.Errorf("the container has no label %s", LabelPIDs)
}

// waitHealthy polls, as the engine has no call that waits for health.
func waitHealthy(ctx context.Context, api *client.Client, id string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		res, err := api.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
		if err != nil {
			return fmt.Errorf("wait for health: %w", err)
		}
		c := res.Container
		if c.State == nil || c.State.Health == nil {
			return errors.New("wait for health: the container has no health check")
		}
		if c.State.Health.Status == container.Healthy {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("container %s is %s after %s: read `docker logs %s`",
				strings.TrimPrefix(c.Name, "/"), c.State.Health.Status, timeout, strings.TrimPrefix(c.Name, "/"))
		case <-tick.C:
		}
	}
}
