// Control is what a cloud's own controllers do for a cluster: it makes the volumes that claims ask
// for, and gives LoadBalancer Services an address. It also holds what the cluster's script needs of
// the API, so that it needs no kubectl.
//
//	control run KUBECONFIG DIR          volumes under DIR, addresses for LoadBalancer Services; until it is told to end
//	control apply KUBECONFIG FILE...    creates the objects of YAML files
//	control ready KUBECONFIG NODE       ends with 0 when the node is Ready and the default service
//	                                    account is there
//	control status KUBECONFIG           the nodes, and the pods of all namespaces
//	control purge SOCKET                stops and removes every pod through the runtime, so that
//	                                    their networks go as well
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "control:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 2 && args[0] == "purge" {
		ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
		defer cancel()
		return purge(ctx, args[1])
	}

	if len(args) < 2 {
		return errors.New("usage: control run|apply|ready|status KUBECONFIG ... | purge SOCKET")
	}

	config, err := clientcmd.BuildConfigFromFlags("", args[1])
	if err != nil {
		return err
	}

	switch rest := args[2:]; {
	case args[0] == "run" && len(rest) == 1:
		return control(ctx, config, rest[0])
	case args[0] == "apply" && len(rest) > 0:
		return apply(ctx, config, rest)
	case args[0] == "ready" && len(rest) == 1:
		return ready(ctx, config, rest[0])
	case args[0] == "status" && len(rest) == 0:
		return status(ctx, config)
	}

	return fmt.Errorf("%q: unknown command or wrong number of arguments", args[0])
}

// control looks once a second: a test cluster has few objects, and a poll cannot miss one.
func control(ctx context.Context, config *rest.Config, dir string) error {
	k, err := client(config)
	if err != nil {
		return err
	}

	for tick := time.NewTicker(time.Second); ; {
		if err := errors.Join(provision(ctx, k, dir), reclaim(ctx, k, dir),
			balance(ctx, k)); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "control:", err)
		}

		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
