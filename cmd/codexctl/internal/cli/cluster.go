package cli

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/pulumi/pulumi/sdk/v3/go/common/apitype"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/cluster"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/deploy"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/doctor"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/failure"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/images"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/progress"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// onCluster is the platform of a stack in a Kubernetes cluster.
type onCluster struct {
	*cluster.Cluster
	t   target
	say func(format string, args ...any)
}

var _ platform = (*onCluster)(nil)

func (k *onCluster) Name() string { return "the cluster" }
func (k *onCluster) Close() error { return nil }

// Preflight also warns of images that the nodes do not list. It is no error: nodes report
// their images with a delay.
func (k *onCluster) Preflight(ctx context.Context, stack stacks.Stack, o upOptions) error {
	if err := k.Cluster.Preflight(ctx, stack); err != nil || stack.Registry != "" || o.load {
		return err
	}

	list, err := images.Of(stack, k.t.project.Root)
	if err != nil {
		return err
	}
	return k.warnOfImages(ctx, list)
}

// warnOfImages names the images of the list that the nodes do not list and nobody serves to them.
func (k *onCluster) warnOfImages(ctx context.Context, list []images.Image) error {
	nodes, err := k.Nodes(ctx)
	if err != nil {
		return err
	}

	var missing []string
	for _, x := range list {
		if has, sure := cluster.HasImage(nodes, x.Ref); x.Build != nil && sure && !has {
			missing = append(missing, x.Ref)
		}
	}

	if len(missing) > 0 {
		k.say("the nodes do not list %s: `codexctl images load %s`, or `codexctl up --load %s`, "+
			"puts them into the cluster",
			strings.Join(missing, ", "), k.t.name, k.t.name)
	}

	return nil
}

// Settle looks for workloads that differ from the state, and for a stack that another state made.
// Somebody may have removed or changed a workload; and the provider, interrupted while a workload
// comes up, forgets what it has changed.
func (k *onCluster) Settle(ctx context.Context, s *deploy.Session, _ stacks.Stack) (bool, error) {
	known, err := s.Resources(ctx)
	if err != nil {
		return false, err
	}

	if len(known) == 0 {
		list, err := k.Replicas(ctx, "")
		if err == nil && len(list) > 0 {
			err = k.Foreign(list)
		}
		return false, err
	}

	there, err := k.Workloads(ctx)
	if err != nil {
		return false, err
	}

	for _, r := range known {
		if r.Type != "kubernetes:apps/v1:Deployment" && r.Type != "kubernetes:apps/v1:StatefulSet" {
			continue
		}

		name, mine := strings.CutPrefix(r.ID, k.Namespace+"/")
		if !mine {
			continue
		}

		switch generation, ok := there[name]; {
		case !ok:
			k.say("%s: the state has it, the cluster does not: comparing the two first", name)
			return true, nil
		case generation != r.Generation:
			k.say("%s: the cluster has it otherwise than the state: comparing the two first", name)
			return true, nil
		}
	}

	return false, nil
}

func (k *onCluster) Foreign(list []running.Replica) error {
	return fmt.Errorf("state: pods of this stack run that are not in it (%s): name the backend "+
		"that they were made with in PULUMI_BACKEND_URL, or remove them with `kubectl delete "+
		"namespace %s`, with all data",
		strings.Join(namesOf(list), ", "), k.Namespace)
}

// Watch looks for services that cannot come up while Pulumi works on them, which would itself
// wait for ten minutes.
func (k *onCluster) Watch(ctx context.Context, stack stacks.Stack) watch {
	needs := map[string][]string{}
	for _, svc := range stack.Services {
		needs[svc.Name] = svc.DependsOn
	}

	o := k.Observe(ctx, needs)
	return watch{
		run: func(ctx context.Context, note func(running.Note)) []failure.Problem {
			return k.problems(ctx, o.Watch(ctx, func(n running.Note) {
				n.Text = message(n.Text)
				note(n)
			}))
		},
		step: func(s progress.Step, begins bool) {
			w := cluster.Work{Service: s.Service(), Kind: s.Kind}
			switch {
			case !s.Workload() || s.Service() == "" || s.Removes():
			case s.Op == apitype.OpSame:
				o.Keep(w)
			case begins:
				o.Begin(w)
			default:
				o.End(w, s.Failed)
			}
		},
		failed: func(ctx context.Context) []failure.Problem {
			return k.problems(ctx, o.Failed(ctx))
		},
		beginAll: o.BeginAll,
	}
}

// problems returns the findings as problems, with the logs of the pods they name.
func (k *onCluster) problems(ctx context.Context, found []cluster.Finding) []failure.Problem {
	var out []failure.Problem
	for _, f := range found {
		p := failure.Problem{Service: f.Service, What: f.What, Todo: f.Todo}
		if f.Why != "" {
			p.What += "\n    " + f.Why
		}

		if f.Pod != "" {
			p.AddLog(ctx, k, running.Replica{Name: f.Pod})
		}

		out = append(out, p)
	}

	return out
}

// Edge returns the route's host or the load balancer's address as the address for people, who
// forward a port if there is neither. This process always forwards one.
func (k *onCluster) Edge(ctx context.Context, stack stacks.Stack) (edge, error) {
	list, err := k.Replicas(ctx, stacks.Edge)
	if err != nil {
		return edge{}, err
	}

	var e edge
	switch r := stack.Route; {
	case r != nil && r.TLS != nil:
		e.address = "https://" + r.Host
	case r != nil:
		e.address = "http://" + r.Host
	default:
		host, port, err := k.EdgeService(ctx, stacks.Edge)
		if err != nil {
			return edge{}, err
		}

		if host != "" {
			e.address = "http://" + net.JoinHostPort(host, strconv.Itoa(port))
		} else if len(list) > 0 {
			e.hint = "`codexctl forward " + k.t.name + "` opens it on this machine"
		}
	}

	if !slices.ContainsFunc(list, func(r running.Replica) bool { return r.Healthy }) {
		return e, nil
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return edge{}, fmt.Errorf("forward: %w", err)
	}

	ctx, cancel := context.WithCancel(ctx)
	f := k.Forward(stacks.Edge)
	var last atomic.Pointer[error]
	go f.Serve(ctx, l, func(err error) { last.Store(&err) })
	e.lastErr = func() error {
		if err := last.Load(); err != nil {
			return *err
		}
		return nil
	}

	e.url, e.client = "http://"+l.Addr().String(), &http.Client{}
	e.close = func() {
		cancel()
		f.Close()
	}

	return e, nil
}

// Clear removes the namespace, which outlives the stack as long as it holds volumes.
func (k *onCluster) Clear(ctx context.Context) error { return k.RemoveNamespace(ctx) }

func (k *onCluster) Patient(_ context.Context, p *doctor.Patient) { p.Cluster = k.Cluster }
