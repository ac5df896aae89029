// Package recorder runs a Pulumi program against a monitor that records instead of provisioning:
// what the program would register, without an engine, a login, plugins or Docker. It knows no stack
// of the project's, so that an edit of one does not compile it again.
package recorder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/go-multierror"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// Stand-ins for values that a recording does not show.
const (
	Secret   = "[secret]"
	Computed = "[computed]" // known only after provisioning
)

// Stack is the Pulumi stack that a program is run for.
type Stack struct {
	Project, Name string

	// Config holds the values by their full key (codexcontinue:domain), Secrets the keys of those
	// that are secret.
	Config  map[string]string
	Secrets []string

	// Key fingerprints secrets; nil leaves them without.
	Key []byte
}

// Resource is one that the program registered.
type Resource struct {
	// URN is the engine's name of it.
	URN  string `json:"urn"`
	Type string `json:"type"`
	Name string `json:"name"`

	// Parent is "type name" of the component it belongs to; empty below the stack itself.
	Parent string `json:"parent,omitempty"`

	// Component is set for what the program makes itself, to group others: no provider does.
	Component bool `json:"component,omitempty"`

	// Aliases are the URNs of its former names.
	Aliases []string `json:"aliases,omitempty"`

	// Provider is the name of the provider resource that makes it; empty for the package's default
	// provider.
	Provider string `json:"provider,omitempty"`

	// Inputs are JSON values, with Secret and Computed in place of what is not shown.
	Inputs map[string]any `json:"inputs,omitempty"`

	// ComputedFrom has, for each input that holds something Computed, the resources ("type name")
	// that it comes from.
	ComputedFrom map[string][]string `json:"computedFrom,omitempty"`

	// Outputs are those that a component registers.
	Outputs map[string]any `json:"outputs,omitempty"`
	Options *Options       `json:"options,omitempty"`

	// Fingerprints distinguish secrets without showing them, by the path of each Secret in Inputs
	// (Path). They need a key.
	Fingerprints map[string]string `json:"fingerprints,omitempty"`
}

// Options are the resource options that change what the engine does.
type Options struct {
	// DependsOn holds "type name" of each, from inputs and dependsOn alike.
	DependsOn           []string `json:"dependsOn,omitempty"`
	DeleteBeforeReplace *bool    `json:"deleteBeforeReplace,omitempty"`
	ReplaceOnChanges    []string `json:"replaceOnChanges,omitempty"`
	IgnoreChanges       []string `json:"ignoreChanges,omitempty"`
	RetainOnDelete      bool     `json:"retainOnDelete,omitempty"`
	Protect             bool     `json:"protect,omitempty"`
	SecretOutputs       []string `json:"secretOutputs,omitempty"`
	AfterCreate         []string `json:"afterCreate,omitempty"`
	AfterUpdate         []string `json:"afterUpdate,omitempty"`

	// Timeouts bound how long the engine waits for the provider; nil for its defaults.
	Timeouts *Timeouts `json:"timeouts,omitempty"`

	// Version is that of the provider's plugin; empty for any.
	Version string `json:"version,omitempty"`
}

// Timeouts are durations as time.Duration writes them; empty is the provider's own.
type Timeouts struct {
	Create string `json:"create,omitempty"`
	Update string `json:"update,omitempty"`
	Delete string `json:"delete,omitempty"`
}

// Record runs the program as a preview does and returns what it registers, sorted by name and type;
// the stack itself comes first, with the program's outputs.
func Record(ctx context.Context, stack Stack, program pulumi.RunFunc) ([]Resource, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}

	m := &monitor{stack: stack, byURN: map[string]*Resource{}}
	server := grpc.NewServer()
	pulumirpc.RegisterResourceMonitorServer(server, m)
	pulumirpc.RegisterEngineServer(server, &engine{})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		server.Stop()
		<-served
	}()

	addr := listener.Addr().String()
	pctx, err := pulumi.NewContext(ctx, pulumi.RunInfo{
		Project: stack.Project, Stack: stack.Name,
		Config: stack.Config, ConfigSecretKeys: stack.Secrets,
		DryRun: true, MonitorAddr: addr, EngineAddr: addr,
	})
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	defer pctx.Close()

	if err := pulumi.RunWithContext(pctx, program); err != nil {
		var all *multierror.Error
		if errors.As(err, &all) && len(all.Errors) == 1 {
			return nil, all.Errors[0] // without the heading "1 error occurred"
		}
		return nil, err
	}

	return m.sorted(), nil
}

// monitor answers each registration with its inputs; what else a provider would know stays unknown,
// as in a preview.
type monitor struct {
	pulumirpc.UnimplementedResourceMonitorServer
	stack Stack

	mu    sync.Mutex
	byURN map[string]*Resource
}

func (m *monitor) GetDeploymentInfo(
	context.Context, *emptypb.Empty,
) (*pulumirpc.DeploymentInfo, error) {
	return &pulumirpc.DeploymentInfo{
		Project: m.stack.Project, Stack: m.stack.Name,
		SupportedFeatures: []pulumirpc.ResourceMonitorFeature{
			pulumirpc.ResourceMonitorFeature_RESOURCE_MONITOR_FEATURE_SECRETS,
			pulumirpc.ResourceMonitorFeature_RESOURCE_MONITOR_FEATURE_RESOURCE_REFERENCES,
			pulumirpc.ResourceMonitorFeature_RESOURCE_MONITOR_FEATURE_RESOURCE_HOOKS,
		},
	}, nil
}

// RegisterResourceHook accepts hooks; a preview runs none.
func (m *monitor) RegisterResourceHook(
	context.Context, *pulumirpc.RegisterResourceHookRequest,
) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

func (m *monitor) SignalAndWaitForShutdown(
	context.Context, *emptypb.Empty,
) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

// keepAll unmarshals properties without dropping what they are beside their values.
var keepAll = plugin.MarshalOptions{KeepSecrets: true, KeepUnknowns: true, KeepResources: true}

func (m *monitor) RegisterResource(
	_ context.Context, req *pulumirpc.RegisterResourceRequest,
) (*pulumirpc.RegisterResourceResponse, error) {
	inputs, err := plugin.UnmarshalProperties(req.GetObject(), keepAll)
	if err != nil {
		return nil, err
	}

	urn := m.urn(req.GetParent(), req.GetType(), req.GetName())
	values := reader{key: m.stack.Key}
	rec := &Resource{
		URN: urn, Type: req.GetType(), Name: req.GetName(), Component: !req.GetCustom(),
		Inputs: values.object("", inputs), Options: options(req), Aliases: m.aliases(req),
	}

	rec.Fingerprints = values.fingerprints
	rec.ComputedFrom = computedFrom(rec.Inputs, req.GetPropertyDependencies())
	if parentType(req.GetParent()) != "" {
		rec.Parent = shortURN(req.GetParent())
	}

	if ref := req.GetProvider(); ref != "" {
		// The reference is a URN and an ID, which is known later.
		rec.Provider = resource.URN(ref[:strings.LastIndex(ref, "::")]).Name()
	}

	m.mu.Lock()
	defer m.mu.Unlock()
	if m.byURN[urn] != nil {
		return nil, fmt.Errorf("two resources are named %s", shortURN(urn))
	}

	m.byURN[urn] = rec
	return &pulumirpc.RegisterResourceResponse{Urn: urn, Object: answer(req)}, nil
}

// answer returns the registration's object as the program sees it: its inputs. The SDK takes what
// is absent for known later, but only as a whole: metadata goes where the Kubernetes provider would
// put a name of its own into it.
func answer(req *pulumirpc.RegisterResourceRequest) *structpb.Struct {
	object := req.GetObject()
	metadata := object.GetFields()["metadata"].GetStructValue()
	if tokens.Type(req.GetType()).Package() != "kubernetes" || metadata == nil ||
		metadata.GetFields()["name"] != nil {
		return object
	}

	fields := maps.Clone(object.GetFields())
	delete(fields, "metadata")
	return &structpb.Struct{Fields: fields}
}

func (m *monitor) RegisterResourceOutputs(
	_ context.Context, req *pulumirpc.RegisterResourceOutputsRequest,
) (*emptypb.Empty, error) {
	outputs, err := plugin.UnmarshalProperties(req.GetOutputs(), keepAll)
	if err != nil {
		return nil, err
	}

	m.mu.Lock()
	defer m.mu.Unlock()
	if rec := m.byURN[req.GetUrn()]; rec != nil {
		rec.Outputs = (&reader{}).object("", outputs)
	}

	return &emptypb.Empty{}, nil
}

// sorted returns what has been registered, in the order of Record.
func (m *monitor) sorted() []Resource {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Resource
	for _, r := range m.byURN {
		out = append(out, *r)
	}

	slices.SortFunc(out, func(a, b Resource) int {
		if root := string(resource.RootStackType); (a.Type == root) != (b.Type == root) {
			if a.Type == root {
				return -1
			}
			return 1
		}

		return cmp.Or(
			strings.Compare(a.Name+" "+a.Type, b.Name+" "+b.Type), strings.Compare(a.URN, b.URN))
	})

	return out
}

// urn returns the URN of a resource of the stack. parent is a URN, or empty.
func (m *monitor) urn(parent, typ, name string) string {
	return string(resource.NewURN(tokens.QName(m.stack.Name), tokens.PackageName(m.stack.Project),
		parentType(parent), tokens.Type(typ), name))
}

// parentType returns the type of the parent, with those above it; empty below the stack itself.
func parentType(parent string) tokens.Type {
	u := resource.URN(parent)
	if parent == "" || u.QualifiedType() == resource.RootStackType {
		return ""
	}
	return u.QualifiedType()
}

// aliases returns the URNs of the resource's former names.
func (m *monitor) aliases(req *pulumirpc.RegisterResourceRequest) []string {
	out := slices.Clone(req.GetAliasURNs())
	for _, a := range req.GetAliases() {
		spec := a.GetSpec()
		if spec == nil {
			out = append(out, a.GetUrn())
			continue
		}

		parent := cmp.Or(spec.GetParentUrn(), req.GetParent())
		if spec.GetNoParent() {
			parent = ""
		}

		of := monitor{stack: Stack{
			Project: cmp.Or(spec.GetProject(), m.stack.Project),
			Name:    cmp.Or(spec.GetStack(), m.stack.Name),
		}}

		out = append(out, of.urn(parent, cmp.Or(spec.GetType(), req.GetType()),
			cmp.Or(spec.GetName(), req.GetName())))
	}

	slices.Sort(out)
	return slices.Compact(out)
}

// dependencies are the resources that each input comes from.
type dependencies = map[string]*pulumirpc.RegisterResourceRequest_PropertyDependencies

// computedFrom returns the resources that the inputs with something Computed in them come from.
func computedFrom(inputs map[string]any, from dependencies) map[string][]string {
	var out map[string][]string
	for key, on := range from {
		if !holdsComputed(inputs[key]) || len(on.GetUrns()) == 0 {
			continue
		}
		if out == nil {
			out = map[string][]string{}
		}

		for _, urn := range on.GetUrns() {
			out[key] = append(out[key], shortURN(urn))
		}

		slices.Sort(out[key])
		out[key] = slices.Compact(out[key])
	}

	return out
}

func holdsComputed(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		return slices.ContainsFunc(slices.Collect(maps.Values(v)), holdsComputed)
	case []any:
		return slices.ContainsFunc(v, holdsComputed)
	}
	return v == Computed
}

func options(req *pulumirpc.RegisterResourceRequest) *Options {
	o := &Options{
		ReplaceOnChanges: req.GetReplaceOnChanges(),
		IgnoreChanges:    req.GetIgnoreChanges(),
		RetainOnDelete:   req.GetRetainOnDelete(),
		Protect:          req.GetProtect(),
		SecretOutputs:    req.GetAdditionalSecretOutputs(),
		AfterCreate:      req.GetHooks().GetAfterCreate(),
		AfterUpdate:      req.GetHooks().GetAfterUpdate(),
		Version:          req.GetVersion(),
	}

	t := req.GetCustomTimeouts()
	bounds := Timeouts{Create: t.GetCreate(), Update: t.GetUpdate(), Delete: t.GetDelete()}
	if bounds != (Timeouts{}) {
		o.Timeouts = &bounds
	}

	for _, urn := range req.GetDependencies() {
		o.DependsOn = append(o.DependsOn, shortURN(urn))
	}

	slices.Sort(o.DependsOn)
	if req.GetDeleteBeforeReplaceDefined() {
		o.DeleteBeforeReplace = new(req.GetDeleteBeforeReplace())
	}

	return o
}

// shortURN returns "type name" of a URN.
func shortURN(urn string) string {
	u := resource.URN(urn)
	return string(u.Type()) + " " + u.Name()
}

// engine drops the program's log lines: errors come back from the program too.
type engine struct {
	pulumirpc.UnimplementedEngineServer
}

func (engine) Log(context.Context, *pulumirpc.LogRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}
