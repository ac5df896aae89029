// Policies enforces the cluster's NetworkPolicies: it is kube-router's controller for them, and
// nothing else of kube-router. It writes rules of the machine's packet filter, with the programs
// iptables and ipset.
//
//	policies KUBECONFIG NODE SERVICES    until it is told to end; SERVICES is the range of the
//	                                     addresses of Services
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/cloudnativelabs/kube-router/v2/pkg/controllers/netpol"
	"github.com/cloudnativelabs/kube-router/v2/pkg/healthcheck"
	"github.com/cloudnativelabs/kube-router/v2/pkg/options"
	"github.com/cloudnativelabs/kube-router/v2/pkg/utils"
	"github.com/coreos/go-iptables/iptables"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "policies:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return errors.New("usage: policies KUBECONFIG NODE SERVICES")
	}

	config, err := clientcmd.BuildConfigFromFlags("", args[0])
	if err != nil {
		return err
	}
	k, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	return enforce(ctx, k, args[1], args[2])
}

// enforce keeps the rules as the policies are, and writes all of them again every five minutes.
func enforce(ctx context.Context, k kubernetes.Interface, node, services string) error {
	filter, err := iptables.NewWithProtocol(iptables.ProtocolIPv4)
	if err != nil {
		return err
	}
	sets, err := utils.NewIPSet(false)
	if err != nil {
		return err
	}

	factory := informers.NewSharedInformerFactory(k, 0)
	pods := factory.Core().V1().Pods().Informer()
	namespaces := factory.Core().V1().Namespaces().Informer()
	policies := factory.Networking().V1().NetworkPolicies().Informer()

	var mu sync.Mutex
	c, err := netpol.NewNetworkPolicyController(k, &options.KubeRouterConfig{
		ClusterIPCIDRs:     []string{services},
		EnableIPv4:         true,
		HostnameOverride:   node,
		IPTablesSyncPeriod: 5 * time.Minute,
		NodePortRange:      "30000-32767",
	}, pods, policies, namespaces, &mu,
		map[corev1.IPFamily]utils.IPTablesHandler{corev1.IPv4Protocol: filter},
		map[corev1.IPFamily]utils.IPSetHandler{corev1.IPv4Protocol: sets})
	if err != nil {
		return err
	}

	for informer, handler := range map[cache.SharedIndexInformer]cache.ResourceEventHandler{
		pods:       c.PodEventHandler,
		namespaces: c.NamespaceEventHandler,
		policies:   c.NetworkPolicyEventHandler,
	} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return err
		}
	}

	factory.Start(ctx.Done())
	for kind, ok := range factory.WaitForCacheSync(ctx.Done()) {
		if !ok {
			return fmt.Errorf("%v: not listed", kind)
		}
	}

	// It waits for somebody to take its heartbeats.
	beats := make(chan *healthcheck.ControllerHeartbeat)
	go func() {
		for range beats {
		}
	}()

	var running sync.WaitGroup
	running.Add(1)
	c.Run(beats, ctx.Done(), &running)
	running.Wait()
	return nil
}
