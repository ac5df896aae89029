package main

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// purge removes containers first: a sandbox with containers in it may refuse to go.
func purge(ctx context.Context, socket string) error {
	conn, err := grpc.NewClient("unix://"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()

	runtime := cri.NewRuntimeServiceClient(conn)
	containers, err := runtime.ListContainers(ctx, &cri.ListContainersRequest{})
	if err != nil {
		return err
	}

	var problems []error
	note := func(what string, err error) {
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", what, err))
		}
	}

	for _, c := range containers.Containers {
		_, err := runtime.StopContainer(ctx, &cri.StopContainerRequest{
			ContainerId: c.Id,
			Timeout:     1,
		})
		note("stop container "+c.Id, err)
		_, err = runtime.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: c.Id})
		note("remove container "+c.Id, err)
	}

	sandboxes, err := runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	if err != nil {
		return err
	}

	for _, s := range sandboxes.Items {
		_, err := runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: s.Id})
		note("stop pod "+s.Id, err)
		_, err = runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: s.Id})
		note("remove pod "+s.Id, err)
	}

	return errors.Join(problems...)
}
