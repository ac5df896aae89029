// Package cluster observes and restarts the pods of one stack in a Kubernetes cluster. It selects
// by labels only, inside the stack's namespace.
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
	"sync"
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

	// callTimeout bounds every later request.
	callTimeout = 15 * time.Second

	// fieldManager names this package in the managed fields of the objects it changes.
	fieldManager = "codexctl"
)

// Options choose the cluster and the stack in it.
type Options struct {
	// Context is a context of the kubeconfig; empty is its current one.
	Context string

	// Namespace and Stack are the names of the stack and of its namespace.
	Namespace, Stack string
	Getenv           func(string) string
}

// Cluster is a connection to a cluster, for one stack.
type Cluster struct {
	// Context is the context of the kubeconfig, Server the URL of its API server.
	Context, Server  string
	Namespace, Stack string

	// User is the name by which the API server knows the caller; empty if it does not tell.
	User string

	api    kubernetes.Interface
	config *rest.Config
}

// quiet stops the libraries from logging to stderr what they also return. What another connection
// follows may be logging already.
var quiet = sync.OnceFunc(func() { klog.SetLogger(logr.Discard()) })

// Connect finds the cluster as kubectl does (KUBECONFIG, else ~/.kube/config) and asks it who the
// caller is. It returns a *ContextError or an *Unreachable.
func Connect(ctx context.Context, o Options) (*Cluster, error) {
	quiet()
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

// loadingRules returns where the kubeconfig is looked for, and the same for a person.
func loadingRules(getenv func(string) string) (*clientcmd.ClientConfigLoadingRules, string) {
	if list := getenv("KUBECONFIG"); list != "" {
		return &clientcmd.ClientConfigLoadingRules{Precedence: filepath.SplitList(list)}, "KUBECONFIG=" + list
	}
	path := filepath.Join(getenv("HOME"), ".kube", "config")
	return &clientcmd.ClientConfigLoadingRules{Precedence: []string{path}}, path
}

// ContextError is returned when the kubeconfig does not lead to a cluster.
type ContextError struct {
	// Context is the one asked for; empty if none was and the kubeconfig chooses none.
	Context string

	// Known are the contexts of the kubeconfig.
	Known []string

	// Where is the path of the kubeconfig.
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
			"there or names none: set KUBECONFIG, or make a cluster (`kind create cluster` "+
			"writes one)",
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

// Unreachable is returned when the API server does not answer, or not to the caller.
type Unreachable struct {
	Context, Server string
	Cause           error
}

func (e *Unreachable) Unwrap() error { return e.Cause }

func (e *Unreachable) Error() string {
	why := "does not answer (" + oneLine(e.Cause) + ")"
	todo := "start the cluster, or choose another context"
	var dns *net.DNSError
	var authority x509.UnknownAuthorityError
	var hostname x509.HostnameError
	text := e.Cause.Error()
	switch {
	case errors.Is(e.Cause, syscall.ECONNREFUSED):
		why = "is not running: nothing listens there"
	case errors.As(e.Cause, &dns):
		why = "cannot be found: there is no host " + dns.Name
		todo = "check the way to it (VPN?), or choose another context"
	case errors.Is(e.Cause, context.DeadlineExceeded), errors.Is(e.Cause, syscall.EHOSTUNREACH),
		errors.Is(e.Cause, syscall.ENETUNREACH):
		why = "does not answer in time"
		todo = "check the way to it (VPN, firewall), start the cluster, or choose another context"
	case errors.As(e.Cause, &authority), errors.As(e.Cause, &hostname),
		strings.Contains(text, "x509: "):
		why = "has a certificate that the kubeconfig does not trust"
		todo = "the cluster was made anew, or something stands between: take its kubeconfig again"
	case apierrors.IsUnauthorized(e.Cause):
		why = "does not accept your credentials"
		todo = "they may have expired: log in to the cluster again, or take its kubeconfig again"
	case strings.Contains(text, "getting credentials: exec: "):
		_, after, _ := strings.Cut(text, "getting credentials: exec: ")
		why = "needs credentials that cannot be had: " + oneLine(errors.New(after))
		todo = "install the program that the kubeconfig names, or log in with it"
	}

	return fmt.Sprintf("cluster: the Kubernetes API server at %s (context %s) %s: %s",
		e.Server, e.Context, why, todo)
}

// oneLine returns the message of err in one line, without the request that a *url.Error repeats.
func oneLine(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}

// Version returns the version of the API server, such as v1.35.4.
func (c *Cluster) Version() (string, error) {
	v, err := c.api.Discovery().ServerVersion()
	if err != nil {
		return "", fmt.Errorf("cluster: version: %w", err)
	}
	return v.GitVersion, nil
}

// selector returns the label selector of a service of the stack, or of all its
// services if service is empty.
func (c *Cluster) selector(service string) string {
	s := stacks.LabelProject + "=" + stacks.Project + "," + stacks.LabelStack + "=" + c.Stack +
		"," + stacks.LabelService
	if service != "" {
		s += "=" + service
	}
	return s
}
