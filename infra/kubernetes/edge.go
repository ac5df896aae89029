package kubernetes

import (
	"cmp"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes"
	"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/apiextensions"
	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	networkingv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/networking/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// The Gateway API's group and the version of its objects that is not going to change.
const (
	gatewayGroup   = "gateway.networking.k8s.io"
	gatewayVersion = gatewayGroup + "/v1"
)

// tlsSecret is where cert-manager puts the certificate that it was asked for.
const tlsSecret = stacks.Edge + "-tls"

// Listeners of a Gateway of the stack's own.
const (
	listenHTTP  = "http"
	listenHTTPS = "https"
)

// ownGateway says that the stack brings a Gateway of its own, for which a controller may put a proxy beside it.
func ownGateway(s stacks.Stack) bool {
	return s.Route != nil && s.Route.Gateway != nil && s.Route.Gateway.Class != ""
}

// addRoute makes the edge reachable by the stack's host name.
func (d *deployment) addRoute(p plan, s *service) error {
	r := d.stack.Route
	switch {
	case r == nil:
		return nil
	case r.Ingress != nil:
		return d.addIngress(*r, p, s)
	}
	parent := kubernetes.UntypedArgs{"group": gatewayGroup, "kind": "Gateway", "name": r.Gateway.Name}
	if r.Gateway.Namespace != "" {
		parent["namespace"] = r.Gateway.Namespace
	}
	var after []pulumi.Resource
	if r.Gateway.Class != "" {
		gateway, err := d.addGateway(*r, s)
		if err != nil {
			return err
		}
		after = append(after, gateway)
		parent["name"], parent["sectionName"] = stacks.Edge, listenHTTP
		if r.TLS != nil {
			parent["sectionName"] = listenHTTPS
			redirect := kubernetes.UntypedArgs{"group": gatewayGroup, "kind": "Gateway", "name": stacks.Edge, "sectionName": listenHTTP}
			if err := d.addHTTPRoute(stacks.Edge+"-https", *r, redirect, toHTTPS(), s, after); err != nil {
				return err
			}
		}
	}
	return d.addHTTPRoute(stacks.Edge, *r, parent, toEdge(servicePort(p)), s, after)
}

// addGateway makes a Gateway of the stack's own, for its host alone.
func (d *deployment) addGateway(r stacks.Route, s *service) (pulumi.Resource, error) {
	listener := func(name, protocol string, port int) kubernetes.UntypedArgs {
		return kubernetes.UntypedArgs{"name": name, "protocol": protocol, "port": port, "hostname": r.Host,
			"allowedRoutes": kubernetes.UntypedArgs{"namespaces": kubernetes.UntypedArgs{"from": "Same"}}}
	}
	listeners := []any{listener(listenHTTP, "HTTP", 80)}
	if r.TLS != nil {
		https := listener(listenHTTPS, "HTTPS", 443)
		https["tls"] = kubernetes.UntypedArgs{"mode": "Terminate", "certificateRefs": []any{
			kubernetes.UntypedArgs{"group": "", "kind": "Secret", "name": cmp.Or(r.TLS.Secret, tlsSecret)}}}
		listeners = append(listeners, https)
	}
	return d.addGatewayObject("Gateway", stacks.Edge, issuerAnnotations(r.TLS), kubernetes.UntypedArgs{
		"gatewayClassName": r.Gateway.Class, "listeners": listeners,
	}, s, nil)
}

// addHTTPRoute routes the host. What the API server would fill in is said, or a preview would show it as a change.
func (d *deployment) addHTTPRoute(name string, r stacks.Route, parent, rule kubernetes.UntypedArgs, s *service, after []pulumi.Resource) error {
	rule["matches"] = []any{kubernetes.UntypedArgs{"path": kubernetes.UntypedArgs{"type": "PathPrefix", "value": "/"}}}
	_, err := d.addGatewayObject("HTTPRoute", name, nil, kubernetes.UntypedArgs{
		"parentRefs": []any{parent}, "hostnames": []any{r.Host}, "rules": []any{rule},
	}, s, append(after, s.object))
	return err
}

// toEdge passes everything to the edge. An answer is a stream that lasts minutes: no timeout of the gateway may end it.
func toEdge(port int) kubernetes.UntypedArgs {
	return kubernetes.UntypedArgs{
		"backendRefs": []any{kubernetes.UntypedArgs{"group": "", "kind": "Service", "name": stacks.Edge, "port": port, "weight": 1}},
		"timeouts":    kubernetes.UntypedArgs{"request": "0s"},
	}
}

func toHTTPS() kubernetes.UntypedArgs {
	return kubernetes.UntypedArgs{"filters": []any{kubernetes.UntypedArgs{"type": "RequestRedirect",
		"requestRedirect": kubernetes.UntypedArgs{"scheme": "https", "statusCode": 301}}}}
}

func (d *deployment) addGatewayObject(kind, name string, annotations map[string]string, spec kubernetes.UntypedArgs, s *service, after []pulumi.Resource) (pulumi.Resource, error) {
	return apiextensions.NewCustomResource(d.ctx, name, &apiextensions.CustomResourceArgs{
		ApiVersion: pulumi.String(gatewayVersion), Kind: pulumi.String(kind),
		Metadata:    d.meta(name, workloadLabels(d.stack, stacks.Edge), annotations),
		OtherFields: kubernetes.UntypedArgs{"spec": spec},
	}, pulumi.Parent(s), pulumi.Provider(d.cluster), pulumi.DependsOn(after))
}

func (d *deployment) addIngress(r stacks.Route, p plan, s *service) error {
	// The address of an Ingress is its controller's business, and not every controller reports one.
	annotations := map[string]string{annotationSkipAwait: "true"}
	for k, v := range issuerAnnotations(r.TLS) {
		annotations[k] = v
	}
	spec := networkingv1.IngressSpecArgs{
		IngressClassName: pulumi.String(r.Ingress.Class),
		Rules: networkingv1.IngressRuleArray{networkingv1.IngressRuleArgs{
			Host: pulumi.String(r.Host),
			Http: networkingv1.HTTPIngressRuleValueArgs{Paths: networkingv1.HTTPIngressPathArray{networkingv1.HTTPIngressPathArgs{
				Path: pulumi.String("/"), PathType: pulumi.String("Prefix"),
				Backend: networkingv1.IngressBackendArgs{Service: networkingv1.IngressServiceBackendArgs{
					Name: pulumi.String(stacks.Edge), Port: networkingv1.ServiceBackendPortArgs{Number: pulumi.Int(servicePort(p))},
				}},
			}}},
		}},
	}
	if r.TLS != nil {
		spec.Tls = networkingv1.IngressTLSArray{networkingv1.IngressTLSArgs{
			Hosts: pulumi.ToStringArray([]string{r.Host}), SecretName: pulumi.String(cmp.Or(r.TLS.Secret, tlsSecret)),
		}}
	}
	_, err := networkingv1.NewIngress(d.ctx, stacks.Edge, &networkingv1.IngressArgs{
		Metadata: d.meta(stacks.Edge, workloadLabels(d.stack, stacks.Edge), annotations), Spec: spec,
	}, pulumi.Parent(s), pulumi.Provider(d.cluster), pulumi.DependsOn([]pulumi.Resource{s.object}))
	return err
}

// issuerAnnotations ask cert-manager for the certificate.
func issuerAnnotations(t *stacks.TLS) map[string]string {
	switch {
	case t == nil || t.Secret != "":
		return nil
	case t.Issuer != "":
		return map[string]string{"cert-manager.io/issuer": t.Issuer}
	}
	return map[string]string{"cert-manager.io/cluster-issuer": t.ClusterIssuer}
}

// servicePort is the port of the edge's Service.
func servicePort(p plan) int { return cmp.Or(p.Ports[0].Host, p.Ports[0].Container) }

// httpURL leaves out HTTP's own port.
func httpURL(host string, port int) string {
	at := net.JoinHostPort(host, strconv.Itoa(port))
	return "http://" + strings.TrimSuffix(at, ":80")
}

// edgeURL is where people go, or how to get there.
func (d *deployment) edgeURL(p plan, s *service) (url pulumi.StringInput, forward string) {
	if r := d.stack.Route; r != nil {
		scheme := "http"
		if r.TLS != nil {
			scheme = "https"
		}
		return pulumi.String(scheme + "://" + r.Host), ""
	}
	port := servicePort(p)
	if loadBalanced(p.Service) {
		return s.object.Status.LoadBalancer().Ingress().ApplyT(func(list []corev1.LoadBalancerIngress) string {
			for _, at := range list {
				for _, host := range []*string{at.Hostname, at.Ip} {
					if host != nil && *host != "" {
						return httpURL(*host, port)
					}
				}
			}
			return ""
		}).(pulumi.StringOutput), ""
	}
	return nil, fmt.Sprintf("kubectl --namespace %s port-forward service/%s 8080:%d", d.opts.Namespace, stacks.Edge, port)
}
