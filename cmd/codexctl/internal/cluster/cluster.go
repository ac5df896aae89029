// Package cluster asks a Kubernetes cluster what a stack's pods are and do, and does with them what
// the commands need. It selects by labels only, inside the stack's namespace.
package cluster

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/codexcontinue/codexcontinue/stacks"
)

const (
	// contactTimeout bounds the first contact: far clusters answer within a second or two.
	contactTimeout = 8 * time.Second

	// callTimeout bounds any other single question.
	callTimeout = 15 * time.Second

	// fieldManager is who changes what this package changes, in the objects' managed fields.
	fieldManager = "codexctl"
)

// Options say which cluster and what in it.
type Options struct {
	// Context is the kubeconfig's; empty is its current one.
	Context string

	// Namespace and Stack are the stack's.
	Namespace, Stack string
	Getenv           func(string) string
}

// Cluster is a connection to the place of one stack in a cluster.
type Cluster struct {
	// Context is the kubeconfig's, Server the URL of its API server.
	Context, Server  string
	Namespace, Stack string

	// User is who the API server takes the caller for; empty when it does not tell.
	User string

	api    kubernetes.Interface
	config *rest.Config
}

// Connect finds the cluster as kubectl does (KUBECONFIG, else ~/.kube/config) and makes sure that
// it answers. Its error is a *ContextError or an *Unreachable.
func Connect(ctx context.Context, o Options) (*Cluster, error) {
	// The libraries log to stderr what their callers learn anyway.
	klog.SetLogger(logr.Discard())
	rules, where := loadingRules(o.Getenv)
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules,
		&clientcmd.ConfigOverrides{CurrentContext: o.Context})
	raw, err := loader.RawConfig()
	if err != nil {
		return nil, &ContextError{Context: o.Context, Where: where, Cause: err}
	}

	name := o.Context
	if name == "" {
		name = raw.CurrentContext
	}

	known := slices.Sorted(maps.Keys(raw.Contexts))
	if raw.Contexts[name] == nil {
		return nil, &ContextError{Context: name, Known: known, Where: where}
	}

	config, err := loader.ClientConfig()
	if err != nil {
		return nil, &ContextError{Context: name, Where: where, Cause: err}
	}

	config.UserAgent, config.WarningHandler = fieldManager, rest.NoWarnings{}
	config.QPS, config.Burst = 100, 200
	api, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, &ContextError{Context: name, Where: where, Cause: err}
	}

	c := &Cluster{
		Context:   name,
		Server:    config.Host,
		Namespace: o.Namespace,
		Stack:     o.Stack,
		api:       api,
		config:    config,
	}

	ctx, cancel := context.WithTimeout(ctx, contactTimeout)
	defer cancel()
	who, err := api.AuthenticationV1().SelfSubjectReviews().Create(ctx,
		&authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	switch {
	case err == nil:
		c.User = who.Status.UserInfo.Username
	case apierrors.IsForbidden(err), apierrors.IsNotFound(err): // it answers, and knows who asks
	default:
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, &Unreachable{Context: name, Server: config.Host, Cause: err}
	}

	return c, nil
}

// Close gives back nothing yet: connections are the transport's.
func (c *Cluster) Close() error { return nil }

// loadingRules are where the kubeconfig is, and the same for a person.
func loadingRules(getenv func(string) string) (*clientcmd.ClientConfigLoadingRules, string) {
	if list := getenv("KUBECONFIG"); list != "" {
		return &clientcmd.ClientConfigLoadingRules{Precedence: filepath.SplitList(list)}, "KUBECONFIG=" + list
	}
	path := filepath.Join(getenv("HOME"), ".kube", "config")
	return &clientcmd.ClientConfigLoadingRules{Precedence: []string{path}}, path
}

// ContextError is that the kubeconfig does not lead to a cluster.
type ContextError struct {
	// Context is the one asked for; empty when none was and the kubeconfig chooses none.
	Context string

	// Known are the contexts that there are.
	Known []string

	// Where is the kubeconfig.
	Where string
	Cause error
}

func (e *ContextError) Unwrap() error { return e.Cause }

func (e *ContextError) Error() string {
	switch {
	case e.Cause != nil:
		return fmt.Sprintf("cluster: the kubeconfig (%s) cannot be used: %s: correct it, or set KUBECONFIG",
			e.Where, oneLine(e.Cause))
	case e.Context == "" && len(e.Known) == 0:
		return fmt.Sprintf("cluster: there is no Kubernetes context: the kubeconfig (%s) is not "+
			"there or names none: set KUBECONFIG, or make a cluster (`kind create cluster` writes one)",
			e.Where)
	case e.Context == "":
		return fmt.Sprintf("cluster: the kubeconfig (%s) chooses no context: set %s:kubernetes: "+
			"{context: ...}, or choose with `kubectl config use-context` (it has %s)",
			e.Where, stacks.Project, strings.Join(e.Known, ", "))
	}

	has := "it has none"
	if len(e.Known) > 0 {
		has = "it has " + strings.Join(e.Known, ", ")
	}

	return fmt.Sprintf("cluster: the kubeconfig (%s) has no context %q: correct "+
		"%s:kubernetes.context, or set KUBECONFIG (%s)",
		e.Where, e.Context, stacks.Project, has)
}

// Unreachable says that no API server answered, or not us, and what to do.
type Unreachable struct {
	Context, Server string
	Cause           error
}

func (e *Unreachable) Unwrap() error { return e.Cause }

func (e *Unreachable) Error() string {
	why, todo := "does not answer ("+oneLine(e.Cause)+")", "start the cluster, or choose another context"
	var dns *net.DNSError
	var authority x509.UnknownAuthorityError
	var hostname x509.HostnameError
	text := e.Cause.Error()
	switch {
	case errors.Is(e.Cause, syscall.ECONNREFUSED):
		why = "is not running: nothing listens there"
	case errors.As(e.Cause, &dns):
		why, todo = "cannot be found: there is no host "+
			dns.Name, "check the way to it (VPN?), or choose another context"
	case errors.Is(e.Cause, context.DeadlineExceeded), errors.Is(e.Cause, syscall.EHOSTUNREACH),
		errors.Is(e.Cause, syscall.ENETUNREACH):
		why, todo = "does not answer in time", "check the way to it (VPN, firewall), start the "+
			"cluster, or choose another context"
	case errors.As(e.Cause, &authority), errors.As(e.Cause, &hostname),
		strings.Contains(text, "x509: "):
		why, todo = "has a certificate that the kubeconfig does not trust", "the cluster was made anew, or something stands between: take its kubeconfig again"
	case apierrors.IsUnauthorized(e.Cause):
		why, todo = "does not accept your credentials", "they may have expired: log in to the "+
			"cluster again, or take its kubeconfig again"
	case strings.Contains(text, "getting credentials: exec: "):
		_, after, _ := strings.Cut(text, "getting credentials: exec: ")
		why, todo = "needs credentials that cannot be had: "+
			oneLine(errors.New(after)), "install the program that the kubeconfig names, or log in with it"
	}

	return fmt.Sprintf("cluster: the Kubernetes API server at %s (context %s) %s: %s", e.Server,
		e.Context, why, todo)
}

// oneLine is the innermost message of the layers that say the same, in a line.
func oneLine(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}

// Version is the API server's, such as v1.35.4.
func (c *Cluster) Version() (string, error) {
	v, err := c.api.Discovery().ServerVersion()
	if err != nil {
		return "", fmt.Errorf("cluster: version: %w", err)
	}
	return v.GitVersion, nil
}

// selector selects what belongs to a service of the stack; to all of them when
// the service is empty.
func (c *Cluster) selector(service string) string {
	s := stacks.LabelProject + "=" + stacks.Project + "," + stacks.LabelStack + "=" + c.Stack +
		"," + stacks.LabelService
	if service != "" {
		s += "=" + service
	}
	return s
}
