package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"strings"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/models"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// copyModels copies the models that the stack needs and does not download to the pods of Ollama that
// lack them, from one that has them: a replica that is added has a volume of its own. It reports
// whether it has copied any. The caller holds the lock of the stack.
func (a *App) copyModels(
	ctx context.Context, t target, p platform, stack stacks.Stack,
) (copied bool, err error) {
	k, ok := p.(*onCluster)
	needs, err := neededModels(t, stack)
	if !ok || err != nil || len(needs) == 0 || sharesModels(stack) {
		return false, err
	}

	list, err := k.Replicas(ctx, stacks.Ollama)
	if err != nil {
		return false, err
	}

	var pods []running.Replica
	names := map[string][]string{} // of the models, by pod
	for _, pod := range list {
		if !pod.Healthy {
			continue
		}
		pods = append(pods, pod)
		if names[pod.Name], err = a.namesInPod(ctx, k, stack, pod); err != nil {
			return false, err
		}
	}

	for _, n := range needs {
		has, lack := split(pods, names, n)
		if len(has) == 0 || len(lack) == 0 {
			continue
		}
		if err := a.copyModel(ctx, k, stack, n.base, has[0], lack); err != nil {
			return copied, err
		}
		copied = true
	}

	return copied, nil
}

// split returns the pods that have the model itself, and those that have neither it nor what was made
// of it.
func split(pods []running.Replica, names map[string][]string, n need) (has, lack []running.Replica) {
	for _, pod := range pods {
		switch {
		case len(lackingIn([]need{{base: n.base}}, names[pod.Name])) == 0:
			has = append(has, pod)
		case len(lackingIn([]need{n}, names[pod.Name])) > 0:
			lack = append(lack, pod)
		}
	}
	return has, lack
}

// sharesModels reports whether the replicas of Ollama have one volume.
func sharesModels(stack stacks.Stack) bool {
	v, ok := stack.Volume(stacks.OllamaData)
	return ok && v.Shared
}

// copyModel copies the model by this machine: Ollama shows nobody its files, and no pod may talk to
// another one of its service.
func (a *App) copyModel(
	ctx context.Context, k *onCluster, stack stacks.Stack, name string, from running.Replica,
	to []running.Replica,
) error {
	dir, err := os.MkdirTemp("", "codexctl-model-")
	if err != nil {
		return fmt.Errorf("model: %w", err)
	}
	defer os.RemoveAll(dir)

	show := &modelProgress{out: a.err, now: a.now}
	defer show.clear()
	a.say("%s: copying %s from %s, which has it", k.Name(), name, from.Name)
	folder := stack.Service(stacks.Ollama).Env["OLLAMA_MODELS"]
	err = models.Collect(ctx, name, dir, func(ctx context.Context, file string, w io.Writer) error {
		var said bytes.Buffer
		code, err := k.Stream(ctx, from, []string{"/drain", "read", path.Join(folder, file)},
			running.Streams{Out: w, Err: &said})
		if err == nil && code != 0 {
			err = fmt.Errorf("%s: %s", from.Name, strings.TrimSpace(said.String()))
		}
		return err
	}, show.tell)
	if err != nil {
		return err
	}

	full, err := models.FullName(name)
	if err != nil {
		return err
	}
	m, err := models.FromFolder(os.DirFS(dir), from.Name, name)
	if err != nil {
		return err
	}

	for _, pod := range to {
		err := a.withPod(k, stack, pod, func(dial dialer) error {
			o := models.NewOllama(dial)
			defer o.Close()
			return o.Put(ctx, full, m, show.tell)
		})
		if err != nil {
			return err
		}

		show.clear()
		a.say("%s: %s is there", pod.Name, full)
	}

	return nil
}

// namesInPod returns the names of the models that a pod of Ollama has.
func (a *App) namesInPod(
	ctx context.Context, k *onCluster, stack stacks.Stack, pod running.Replica,
) (names []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	err = a.withPod(k, stack, pod, func(dial dialer) (err error) {
		names, err = namesAt(ctx, dial)
		return err
	})
	return names, err
}

// withPod calls use with a way to a pod in which Ollama runs.
func (a *App) withPod(
	k *onCluster, stack stacks.Stack, pod running.Replica, use func(dial dialer) error,
) error {
	f, failed := k.ForwardTo(pod.Service, pod.Name, stack.OllamaPort()), a.sayNew()
	err := use(func(ctx context.Context) (net.Conn, error) {
		return f.Dial(context.WithoutCancel(ctx), failed), nil
	})
	return errors.Join(err, f.Close())
}
