package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// balancerAddresses are routed to the cluster's bridge (network.sh); kube-proxy serves
// them on this machine.
var balancerAddresses = netip.MustParsePrefix("10.97.0.0/24")

// balance gives each LoadBalancer Service an address.
func balance(ctx context.Context, k kubernetes.Interface) error {
	services, err := k.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}

	used := map[string]bool{}
	for _, s := range services.Items {
		for _, i := range s.Status.LoadBalancer.Ingress {
			used[i.IP] = true
		}
	}

	free := balancerAddresses.Addr().Next()
	for _, s := range services.Items {
		if s.Spec.Type != corev1.ServiceTypeLoadBalancer || s.Spec.LoadBalancerClass != nil ||
			len(s.Status.LoadBalancer.Ingress) > 0 {
			continue
		}

		for used[free.String()] {
			free = free.Next()
		}

		if !balancerAddresses.Contains(free) {
			return errors.New("no address is left for LoadBalancer Services")
		}

		used[free.String()] = true
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: free.String()}}
		if _, err := k.CoreV1().Services(s.Namespace).UpdateStatus(ctx, &s, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("address of service %s/%s: %w", s.Namespace, s.Name, err)
		}
	}

	return nil
}
