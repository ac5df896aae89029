package kubernetes

import (
	"cmp"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/codexcontinue/codexcontinue/stacks"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
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

// ownGateway reports whether the stack brings a Gateway of its own, for which a controller may
// put a proxy beside it.
func ownGateway(s stacks.Stack) bool {
	return s.Route != nil && s.Route.Gateway != nil && s.Route.Gateway.Class != ""
}

// fields are a part of an object of the Gateway API.
type fields = map[string]any

// addRoute makes the edge reachable by the stack's host name.
func (r *renderer) addRoute(route stacks.Route, p plan, service *Object) {
	if route.Ingress != nil {
		r.addIngress(route, p, service)
		return
	}

	parent := fields{"group": gatewayGroup, "kind": "Gateway", "name": route.Gateway.Name}
	if route.Gateway.Namespace != "" {
		parent["namespace"] = route.Gateway.Namespace
	}

	var after []*Object
	if route.Gateway.Class != "" {
		after = append(after, r.addGateway(route))
		parent["name"], parent["sectionName"] = stacks.Edge, listenHTTP
		if route.TLS != nil {
			parent["sectionName"] = listenHTTPS
			redirect := fields{
				"group":       gatewayGroup,
				"kind":        "Gateway",
				"name":        stacks.Edge,
				"sectionName": listenHTTP,
			}

			r.addHTTPRoute(stacks.Edge+"-https", route, redirect, toHTTPS(), append(after, service))
		}
	}

	r.addHTTPRoute(stacks.Edge, route, parent, toEdge(servicePort(p)), append(after, service))
}

// addGateway makes a Gateway of the stack's own, for its host alone.
func (r *renderer) addGateway(route stacks.Route) *Object {
	listener := func(name, protocol string, port int) fields {
		return fields{
			"name":          name,
			"protocol":      protocol,
			"port":          int64(port),
			"hostname":      route.Host,
			"allowedRoutes": fields{"namespaces": fields{"from": "Same"}},
		}
	}

	listeners := []any{listener(listenHTTP, "HTTP", 80)}
	if route.TLS != nil {
		https := listener(listenHTTPS, "HTTPS", 443)
		https["tls"] = fields{"mode": "Terminate", "certificateRefs": []any{
			fields{"group": "", "kind": "Secret", "name": cmp.Or(route.TLS.Secret, tlsSecret)}}}
		listeners = append(listeners, https)
	}

	return r.addGatewayObject("Gateway", stacks.Edge, issuerAnnotations(route.TLS), fields{
		"gatewayClassName": route.Gateway.Class, "listeners": listeners,
	}, nil)
}

// addHTTPRoute routes the host. What the API server would fill in is said, or a preview
// would show it as a change.
func (r *renderer) addHTTPRoute(
	name string, route stacks.Route, parent, rule fields, after []*Object,
) {
	rule["matches"] = []any{fields{"path": fields{"type": "PathPrefix", "value": "/"}}}
	r.addGatewayObject("HTTPRoute", name, nil, fields{
		"parentRefs": []any{parent}, "hostnames": []any{route.Host}, "rules": []any{rule},
	}, after)
}

// toEdge passes everything to the edge. An answer is a stream that lasts minutes: no timeout of
// the gateway may end it.
func toEdge(port int) fields {
	return fields{
		"backendRefs": []any{fields{
			"group":  "",
			"kind":   "Service",
			"name":   stacks.Edge,
			"port":   int64(port),
			"weight": int64(1),
		}},
		"timeouts": fields{"request": "0s"},
	}
}

func toHTTPS() fields {
	return fields{"filters": []any{fields{"type": "RequestRedirect",
		"requestRedirect": fields{"scheme": "https", "statusCode": int64(301)}}}}
}

func (r *renderer) addGatewayObject(
	kind, name string, annotations map[string]string, spec fields, after []*Object,
) *Object {
	u := &unstructured.Unstructured{Object: fields{
		"apiVersion": gatewayVersion,
		"kind":       kind,
		"spec":       spec,
	}}

	meta := r.meta(name, r.labelsOf(stacks.Edge))
	meta.Annotations = annotations
	mark(&meta, r.opts.Pods[stacks.Edge])
	u.SetName(meta.Name)
	u.SetNamespace(meta.Namespace)
	u.SetLabels(meta.Labels)
	u.SetAnnotations(meta.Annotations)
	return r.add(&Object{Resource: name, Component: stacks.Edge, After: after, API: u})
}

func (r *renderer) addIngress(route stacks.Route, p plan, service *Object) {
	meta := r.meta(stacks.Edge, r.labelsOf(stacks.Edge))
	meta.Annotations = issuerAnnotations(route.TLS)
	mark(&meta, r.opts.Pods[stacks.Edge])
	spec := networkingv1.IngressSpec{
		IngressClassName: &route.Ingress.Class,
		Rules: []networkingv1.IngressRule{{
			Host: route.Host,
			IngressRuleValue: networkingv1.IngressRuleValue{
				HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{
					Path:     "/",
					PathType: new(networkingv1.PathTypePrefix),
					Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{
						Name: stacks.Edge, Port: networkingv1.ServiceBackendPort{Number: int32(servicePort(p))},
					}},
				}}},
			},
		}},
	}
	if route.TLS != nil {
		spec.TLS = []networkingv1.IngressTLS{{
			Hosts: []string{route.Host}, SecretName: cmp.Or(route.TLS.Secret, tlsSecret),
		}}
	}

	r.add(&Object{
		Resource: stacks.Edge, Component: stacks.Edge, After: []*Object{service},
		// The address of an Ingress is its controller's business, and not every
		// controller reports one.
		Annotations: map[string]string{annotationSkipAwait: "true"},
		API:         &networkingv1.Ingress{ObjectMeta: meta, Spec: spec},
	})
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

// servicePort returns the port of the edge's Service.
func servicePort(p plan) int { return cmp.Or(p.Ports[0].Host, p.Ports[0].Container) }

// httpURL leaves out HTTP's own port.
func httpURL(host string, port int) string {
	at := net.JoinHostPort(host, strconv.Itoa(port))
	return "http://" + strings.TrimSuffix(at, ":80")
}

// edgeURL returns where people go, or how to get there; balanced reports whether only the address
// of a load balancer says it.
func (r *Rendering) edgeURL(p plan) (url, forward string, balanced bool) {
	if t := r.stack.Route; t != nil {
		scheme := "http"
		if t.TLS != nil {
			scheme = "https"
		}
		return scheme + "://" + t.Host, "", false
	}

	if loadBalanced(p.Service) {
		return "", "", true
	}

	return "", fmt.Sprintf("kubectl --namespace %s port-forward service/%s 8080:%d",
		r.opts.Namespace, stacks.Edge, servicePort(p)), false
}
