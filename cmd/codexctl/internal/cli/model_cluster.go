package cli

import (
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/cluster"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/images"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/infra/program"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// ollamaObjects are what of a stack models are put into where no Ollama runs.
type ollamaObjects struct {
	namespace *corev1.Namespace
	set       *appsv1.StatefulSet
}

// prepareCluster checks whether models can be put into the volumes of the stack. Where no Ollama
// runs it makes the namespace, as the stack would, which then takes it over.
func (a *App) prepareCluster(
	ctx context.Context, t target, k *onCluster, stack stacks.Stack,
	objects func() (ollamaObjects, error),
) error {
	if sharesModels(stack) {
		return fmt.Errorf("%s:volumes.%s.shared: the replicas of Ollama only read the "+
			"volume, so no model can be put into it: remove the key, or give Ollama a way out",
			stacks.Project, stacks.OllamaData)
	}

	list, err := k.Replicas(ctx, stacks.Ollama)
	if err != nil || len(list) > 0 {
		return err
	}

	if err := k.Cluster.Preflight(ctx, stack); err != nil {
		return err
	}
	if err := k.CheckFill(ctx); err != nil {
		return err
	}
	if stack.Registry == "" {
		of, err := ollamaImage(stack, t.project.Root)
		if err != nil {
			return err
		}
		if err := k.warnOfImages(ctx, of); err != nil {
			return err
		}
	}

	of, err := objects()
	if err != nil {
		return err
	}
	return k.MakeNamespace(ctx, of.namespace)
}

// renderOllama renders the stack, and returns what of it models are put into.
func renderOllama(t target, stack stacks.Stack) (of ollamaObjects, err error) {
	plain, secret := t.file.Config.Own()
	settings, _, err := program.LoadOffline(t.project.Root, t.file.Name, plain, secret)
	if err != nil {
		return of, err
	}
	r, err := program.Render(settings, stack, t.project.Root)
	if err != nil {
		return of, err
	}

	for _, o := range r.Kubernetes.Objects {
		switch x := o.API.(type) {
		case *corev1.Namespace:
			of.namespace = x
		case *appsv1.StatefulSet:
			if x.Name == stacks.Ollama {
				of.set = x
			}
		}
	}
	if of.set == nil {
		return of, fmt.Errorf("%s of stack %s has no volume to put a model into", stacks.Ollama,
			t.file.Name)
	}
	return of, nil
}

// ollamasOnCluster calls put, which puts the model there, with a way to each pod of Ollama. Before
// the first up there is none, and one for each volume, that a network policy closes, runs as the
// stack's would for the time that put takes.
func (a *App) ollamasOnCluster(
	ctx context.Context, t target, k *onCluster, stack stacks.Stack,
	objects func() (ollamaObjects, error), model string,
	put func(at string, dial dialer) error,
) error {
	list, err := k.Replicas(ctx, stacks.Ollama)
	if err != nil {
		return err
	}

	for _, pod := range list {
		err := a.withPod(k, stack, pod, func(dial dialer) error { return put(pod.Name, dial) })
		if err != nil {
			return upFirst(err, t.name)
		}
	}
	if len(list) > 0 {
		return nil
	}

	// Its pods would come beside those that fill the volumes.
	there, err := k.Workloads(ctx)
	if err != nil {
		return err
	}
	if _, ok := there[stacks.Ollama]; ok {
		return fmt.Errorf("no Ollama of stack %s runs, and it should: `codexctl up --no-wait %s` "+
			"starts it, or says why it cannot", t.file.Name, t.name)
	}

	of, err := objects()
	if err != nil {
		return err
	}
	if err := a.pushOllama(ctx, t, stack); err != nil {
		return err
	}

	a.say("%s is not up: an Ollama that a network policy closes fills each of its "+
		"volumes", t.file.Name)
	return k.Fill(ctx, cluster.Filling{
		Set:   of.set,
		Args:  []string{"/bin/ollama", "serve"},
		Limit: longestImport,
		Model: model,
	}, func(pods []running.Replica) error {
		for i, pod := range pods {
			at := fmt.Sprintf("%s-%d", of.set.Name, i) // the replica that will have it
			err := a.withPod(k, stack, pod, func(dial dialer) error { return put(at, dial) })
			if err != nil {
				return onceMore(err)
			}
		}
		return nil
	})
}

// pushOllama pushes the image of Ollama to the stack's registry if that lacks it, as up does later.
func (a *App) pushOllama(ctx context.Context, t target, stack stacks.Stack) error {
	if stack.Registry == "" {
		return nil // the nodes have it by other ways
	}

	list, err := ollamaImage(stack, t.project.Root)
	if err != nil || len(list) == 0 {
		return err
	}
	_, err = a.pushMissing(ctx, t, list)
	return err
}

// ollamaImage returns the image of the stack's Ollama, or none where others build it.
func ollamaImage(stack stacks.Stack, root string) ([]images.Image, error) {
	list, err := ownImages(stack, root)
	return slices.DeleteFunc(list, func(x images.Image) bool {
		return x.Service != stacks.Ollama
	}), err
}
