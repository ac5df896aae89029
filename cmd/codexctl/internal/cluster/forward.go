package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
)

// Forwarder forwards TCP connections to the first port of a service's pods, through the API server.
// Each connection gets a pod that is ready, so the forwarder outlives pods. It does not balance: it
// is for a person, not for traffic.
type Forwarder struct {
	c       *Cluster
	service string

	// only is the one pod to forward to; empty is any. port is the pod's; 0 is its first.
	only string
	port int

	mu   sync.Mutex
	conn httpstream.Connection

	// pod is the one that conn leads to, at podPort.
	pod     string
	podPort int
	next    int
}

// Forward returns a forwarder to the service's pods. The caller closes it.
func (c *Cluster) Forward(service string) *Forwarder {
	return &Forwarder{c: c, service: service}
}

// ForwardTo returns a forwarder to a port of one pod of the service. The caller closes it.
func (c *Cluster) ForwardTo(service, pod string, port int) *Forwarder {
	return &Forwarder{c: c, service: service, only: pod, port: port}
}

// Dial returns a connection to a pod. It ends at once if it cannot be forwarded, and
// failed is called with why.
func (f *Forwarder) Dial(ctx context.Context, failed func(error)) net.Conn {
	local, remote := net.Pipe()
	go func() {
		defer remote.Close()
		if err := f.forward(ctx, remote); err != nil && ctx.Err() == nil {
			failed(err)
		}
	}()

	return local
}

// Serve forwards the connections that l accepts until the context ends or l is closed. It calls
// failed for each that could not be forwarded.
func (f *Forwarder) Serve(ctx context.Context, l net.Listener, failed func(error)) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		local, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("forward: %w", err)
		}

		go func() {
			defer local.Close()
			if err := f.forward(ctx, local); err != nil && ctx.Err() == nil {
				failed(err)
			}
		}()
	}
}

// Close ends every connection.
func (f *Forwarder) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.drop()
}

func (f *Forwarder) drop() error {
	if f.conn == nil {
		return nil
	}
	err := f.conn.Close()
	f.conn = nil
	return err
}

// forward copies between the local connection and a pod until one side is done.
func (f *Forwarder) forward(ctx context.Context, local net.Conn) error {
	data, trouble, done, err := f.open(ctx)
	if err != nil {
		return err
	}
	defer done()

	stop := context.AfterFunc(ctx, func() { local.Close() })
	defer stop()
	remote := make(chan error, 1)
	go func() {
		text, err := io.ReadAll(trouble)
		if err == nil && len(text) > 0 {
			err = errors.New(string(text))
			local.Close() // nothing will come any more
		}
		remote <- err
	}()

	fromLocal := make(chan struct{})
	go func() {
		defer close(fromLocal)
		_, _ = io.Copy(data, local) // what breaks shows on the other side
		data.Close()
	}()

	_, err = io.Copy(local, data)
	local.Close()
	<-fromLocal
	if text := <-remote; text != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		_ = f.drop() // the pod went away: the next connection takes another
		return fmt.Errorf("forward: %s: %w", f.service, text)
	}

	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("forward: %s: %w", f.service, err)
	}

	return nil
}

// open opens the two streams of one connection: its data, and the errors of the other side.
func (f *Forwarder) open(ctx context.Context) (data, trouble httpstream.Stream, done func(), err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	conn, err := f.connection(ctx)
	if err != nil {
		return nil, nil, nil, err
	}

	f.next++
	headers := http.Header{}
	headers.Set(corev1.StreamType, corev1.StreamTypeError)
	headers.Set(corev1.PortHeader, strconv.Itoa(f.podPort))
	headers.Set(corev1.PortForwardRequestIDHeader, strconv.Itoa(f.next))
	if trouble, err = conn.CreateStream(headers); err == nil {
		trouble.Close() // nothing is written to it
		headers.Set(corev1.StreamType, corev1.StreamTypeData)
		data, err = conn.CreateStream(headers)
	}

	if err != nil {
		_ = f.drop()
		return nil, nil, nil, fmt.Errorf("forward: %s: %w", f.service, err)
	}

	return data, trouble, func() { conn.RemoveStreams(data, trouble) }, nil
}

// connection returns a connection to a pod that is ready now, the current one if it can.
func (f *Forwarder) connection(ctx context.Context) (httpstream.Connection, error) {
	pods, err := f.c.pods(ctx, f.service)
	if err != nil {
		return nil, err
	}

	name, port := "", 0
	for i := range pods {
		p := &pods[i]
		if f.only == "" && ofJob(p) || f.only != "" && p.Name != f.only ||
			p.DeletionTimestamp != nil || !ready(p) {
			continue
		}
		if name = p.Name; len(p.Spec.Containers[0].Ports) > 0 {
			port = int(p.Spec.Containers[0].Ports[0].ContainerPort)
		}
		if f.port != 0 {
			port = f.port
		}
		if name == f.pod {
			break
		}
	}

	if name == "" {
		return nil, fmt.Errorf("forward: %s: no pod of it is ready", f.service)
	}

	if f.conn != nil && f.pod == name {
		select {
		case <-f.conn.CloseChan():
		default:
			return f.conn, nil
		}
	}

	_ = f.drop()
	dialer, err := f.c.dialer(name)
	if err != nil {
		return nil, fmt.Errorf("forward: %w", err)
	}

	conn, _, err := dialer.Dial(portforward.PortForwardProtocolV1Name)
	if err != nil {
		return nil, f.c.failed("forward to "+name, err)
	}

	f.conn, f.pod, f.podPort = conn, name, port
	return conn, nil
}

// dialer returns a dialer by WebSocket, and by SPDY if the API server or a proxy does not know
// that, as kubectl does.
func (c *Cluster) dialer(pod string) (httpstream.Dialer, error) {
	request := c.api.CoreV1().RESTClient().Post().Resource("pods").Namespace(c.Namespace)
	url := request.Name(pod).SubResource("portforward").URL()
	tunnel, err := portforward.NewSPDYOverWebsocketDialer(url, c.config)
	if err != nil {
		return nil, err
	}

	transport, upgrader, err := spdy.RoundTripperFor(c.config)
	if err != nil {
		return nil, err
	}

	plain := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, url)
	return portforward.NewFallbackDialer(tunnel, plain, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	}), nil
}

// EdgeService returns the address of the service's load balancer, or "" if it has none.
func (c *Cluster) EdgeService(
	ctx context.Context, service string,
) (address string, port int, err error) {
	list, err := c.api.CoreV1().Services(c.Namespace).List(ctx,
		metav1.ListOptions{LabelSelector: c.selector(service)})
	if err != nil {
		return "", 0, c.failed("list services", err)
	}

	for _, s := range list.Items {
		if s.Spec.Type != corev1.ServiceTypeLoadBalancer || len(s.Spec.Ports) == 0 {
			continue
		}

		for _, i := range s.Status.LoadBalancer.Ingress {
			if address = i.Hostname; address == "" {
				address = i.IP
			}
			return address, int(s.Spec.Ports[0].Port), nil
		}
	}

	return "", 0, nil
}
