// Package plan runs the Pulumi program against a monitor that records instead of provisioning: what a stack would be,
// without an engine, a login, plugins or Docker.
package plan

import (
	"context"
	"errors"
	"fmt"
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
)

// Stand-ins for values that a plan does not show.
const (
	Secret   = "[secret]"
	Computed = "[computed]" // known only after provisioning
)

// Stack says what a program is run for.
type Stack struct {
	Project, Name string
	// Config holds the values by their full key (codexcontinue:domain); Secrets names those that are secret.
	Config  map[string]string
	Secrets []string
}

// Resource is one that the program registered.
type Resource struct {
	Type string `json:"type"`
	Name string `json:"name"`
	// Parent is "type name" of the component it belongs to; empty below the stack itself.
	Parent string `json:"parent,omitempty"`
	// Inputs as JSON values. Secrets and what is known only later are shown as Secret and Computed.
	Inputs map[string]any `json:"inputs,omitempty"`
	// Outputs are those that a component registers.
	Outputs map[string]any `json:"outputs,omitempty"`
	Options *Options       `json:"options,omitempty"`
}

// Options are the resource options that change what the engine does.
type Options struct {
	// DependsOn holds "type name" of each, from inputs and dependsOn alike.
	DependsOn           []string `json:"dependsOn,omitempty"`
	DeleteBeforeReplace *bool    `json:"deleteBeforeReplace,omitempty"`
	ReplaceOnChanges    []string `json:"replaceOnChanges,omitempty"`
	IgnoreChanges       []string `json:"ignoreChanges,omitempty"`
	RetainOnDelete      bool     `json:"retainOnDelete,omitempty"`
	SecretOutputs       []string `json:"secretOutputs,omitempty"`
	AfterCreate         []string `json:"afterCreate,omitempty"`
	AfterUpdate         []string `json:"afterUpdate,omitempty"`
}

// Record runs the program as a preview does and returns its resources sorted by name and type; the stack itself comes
// first, with the program's outputs.
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
		Project: stack.Project, Stack: stack.Name, Config: stack.Config, ConfigSecretKeys: stack.Secrets,
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

// monitor answers each registration with its inputs; what else a provider would know stays unknown, as in a preview.
type monitor struct {
	pulumirpc.UnimplementedResourceMonitorServer
	stack Stack

	mu    sync.Mutex
	byURN map[string]*Resource
}

func (m *monitor) GetDeploymentInfo(context.Context, *emptypb.Empty) (*pulumirpc.DeploymentInfo, error) {
	return &pulumirpc.DeploymentInfo{Project: m.stack.Project, Stack: m.stack.Name, SupportedFeatures: []pulumirpc.ResourceMonitorFeature{
		pulumirpc.ResourceMonitorFeature_RESOURCE_MONITOR_FEATURE_SECRETS,
		pulumirpc.ResourceMonitorFeature_RESOURCE_MONITOR_FEATURE_RESOURCE_REFERENCES,
		pulumirpc.ResourceMonitorFeature_RESOURCE_MONITOR_FEATURE_RESOURCE_HOOKS,
	}}, nil
}

// RegisterResourceHook accepts hooks; a preview runs none.
func (m *monitor) RegisterResourceHook(context.Context, *pulumirpc.RegisterResourceHookRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

func (m *monitor) SignalAndWaitForShutdown(context.Context, *emptypb.Empty) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

func (m *monitor) RegisterResource(_ context.Context, req *pulumirpc.RegisterResourceRequest) (*pulumirpc.RegisterResourceResponse, error) {
	inputs, err := plugin.UnmarshalProperties(req.GetObject(), plugin.MarshalOptions{KeepSecrets: true, KeepUnknowns: true, KeepResources: true})
	if err != nil {
		return nil, err
	}
	parentType := tokens.Type("")
	if parent := resource.URN(req.GetParent()); parent != "" && parent.QualifiedType() != resource.RootStackType {
		parentType = parent.QualifiedType()
	}
	urn := string(resource.NewURN(tokens.QName(m.stack.Name), tokens.PackageName(m.stack.Project), parentType, tokens.Type(req.GetType()), req.GetName()))
	rec := &Resource{Type: req.GetType(), Name: req.GetName(), Inputs: plainMap(inputs), Options: options(req)}
	if parentType != "" {
		rec.Parent = shortURN(req.GetParent())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.byURN[urn] != nil {
		return nil, fmt.Errorf("two resources are named %s", shortURN(urn))
	}
	m.byURN[urn] = rec
	return &pulumirpc.RegisterResourceResponse{Urn: urn, Object: req.GetObject()}, nil
}

func (m *monitor) RegisterResourceOutputs(_ context.Context, req *pulumirpc.RegisterResourceOutputsRequest) (*emptypb.Empty, error) {
	outputs, err := plugin.UnmarshalProperties(req.GetOutputs(), plugin.MarshalOptions{KeepSecrets: true, KeepUnknowns: true, KeepResources: true})
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if rec := m.byURN[req.GetUrn()]; rec != nil {
		rec.Outputs = plainMap(outputs)
	}
	return &emptypb.Empty{}, nil
}

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
		return strings.Compare(a.Name+" "+a.Type, b.Name+" "+b.Type)
	})
	return out
}

func options(req *pulumirpc.RegisterResourceRequest) *Options {
	o := &Options{
		ReplaceOnChanges: req.GetReplaceOnChanges(), IgnoreChanges: req.GetIgnoreChanges(), RetainOnDelete: req.GetRetainOnDelete(),
		SecretOutputs: req.GetAdditionalSecretOutputs(), AfterCreate: req.GetHooks().GetAfterCreate(), AfterUpdate: req.GetHooks().GetAfterUpdate(),
	}
	for _, urn := range req.GetDependencies() {
		o.DependsOn = append(o.DependsOn, shortURN(urn))
	}
	slices.Sort(o.DependsOn)
	if req.GetDeleteBeforeReplaceDefined() {
		before := req.GetDeleteBeforeReplace()
		o.DeleteBeforeReplace = &before
	}
	return o
}

func plainMap(m resource.PropertyMap) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		if !v.IsNull() {
			out[string(k)] = plain(v)
		}
	}
	return out
}

func plain(v resource.PropertyValue) any {
	switch {
	case v.IsSecret():
		return Secret
	case v.IsComputed(), v.IsOutput():
		return Computed
	case v.IsResourceReference():
		return shortURN(string(v.ResourceReferenceValue().URN))
	case v.IsArray():
		out := []any{}
		for _, e := range v.ArrayValue() {
			out = append(out, plain(e))
		}
		return out
	case v.IsObject():
		return plainMap(v.ObjectValue())
	}
	return v.V
}

// shortURN is "type name" of a URN.
func shortURN(urn string) string {
	u := resource.URN(urn)
	return string(u.Type()) + " " + u.Name()
}

// engine takes the program's log lines and drops them: errors come back from the program too.
type engine struct {
	pulumirpc.UnimplementedEngineServer
}

func (engine) Log(context.Context, *pulumirpc.LogRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

func (engine) GetRootResource(context.Context, *pulumirpc.GetRootResourceRequest) (*pulumirpc.GetRootResourceResponse, error) {
	return &pulumirpc.GetRootResourceResponse{}, nil
}

func (engine) SetRootResource(context.Context, *pulumirpc.SetRootResourceRequest) (*pulumirpc.SetRootResourceResponse, error) {
	return &pulumirpc.SetRootResourceResponse{}, nil
}
