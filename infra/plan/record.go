// Package plan runs the Pulumi program against a monitor that records instead of provisioning: what a stack would be,
// without an engine, a login, plugins or Docker.
package plan

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

	"github.com/codexcontinue/codexcontinue/infra/kubernetes"
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

// Stand-ins for values that a plan does not show.
const (
	Secret   = kubernetes.SecretValue
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
	// URN is what the engine calls it.
	URN  string `json:"urn"`
	Type string `json:"type"`
	Name string `json:"name"`
	// Parent is "type name" of the component it belongs to; empty below the stack itself.
	Parent string `json:"parent,omitempty"`
	// Component says that the program makes it, to group others: no provider does.
	Component bool `json:"component,omitempty"`
	// Aliases are URNs that it had before.
	Aliases []string `json:"aliases,omitempty"`
	// Provider is the name of the provider resource that makes it; empty for the package's default provider.
	Provider string `json:"provider,omitempty"`
	// Inputs as JSON values. Secrets and what is known only later are shown as Secret and Computed.
	Inputs map[string]any `json:"inputs,omitempty"`
	// ComputedFrom says, for each input that holds something Computed, which resources ("type name") it comes from.
	ComputedFrom map[string][]string `json:"computedFrom,omitempty"`
	// Outputs are those that a component registers.
	Outputs map[string]any `json:"outputs,omitempty"`
	Options *Options       `json:"options,omitempty"`
	// Fingerprints tell secrets apart without showing them: by the path of each Secret in Inputs (Path), when a key was
	// given.
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
	// Timeouts bound how long the engine waits for the provider, where it is told.
	Timeouts *Timeouts `json:"timeouts,omitempty"`
	// Version is that of the provider's plugin, where it is told.
	Version string `json:"version,omitempty"`
}

// Timeouts are durations as time.Duration writes them; empty is the provider's own.
type Timeouts struct {
	Create string `json:"create,omitempty"`
	Update string `json:"update,omitempty"`
	Delete string `json:"delete,omitempty"`
}

// Record runs the program as a preview does and returns its resources sorted by name and type; the stack itself comes
// first, with the program's outputs.
func Record(ctx context.Context, stack Stack, program pulumi.RunFunc) ([]Resource, error) {
	m, err := record(ctx, stack, nil, program)
	if err != nil {
		return nil, err
	}
	return m.sorted(), nil
}

// record runs the program against a monitor, which fingerprints secrets with the key unless that is nil.
func record(ctx context.Context, stack Stack, key []byte, program pulumi.RunFunc) (*monitor, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	m := &monitor{stack: stack, key: key, byURN: map[string]*Resource{}, plugins: map[string]string{}}
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
	return m, nil
}

// monitor answers each registration with its inputs; what else a provider would know stays unknown, as in a preview.
type monitor struct {
	pulumirpc.UnimplementedResourceMonitorServer
	stack Stack
	key   []byte

	mu    sync.Mutex
	byURN map[string]*Resource
	// plugins are the versions of the provider plugins that the resources ask for, by package.
	plugins map[string]string
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
	var parentType tokens.Type
	if parent := resource.URN(req.GetParent()); parent != "" && parent.QualifiedType() != resource.RootStackType {
		parentType = parent.QualifiedType()
	}
	urn := string(resource.NewURN(tokens.QName(m.stack.Name), tokens.PackageName(m.stack.Project), parentType, tokens.Type(req.GetType()), req.GetName()))
	shown := reader{key: m.key}
	rec := &Resource{URN: urn, Type: req.GetType(), Name: req.GetName(), Inputs: shown.object("", inputs), Options: options(req),
		Component: !req.GetCustom(), Aliases: aliases(m.stack, req)}
	rec.Fingerprints, rec.ComputedFrom = shown.fingerprints, computedFrom(rec.Inputs, req.GetPropertyDependencies())
	if parentType != "" {
		rec.Parent = shortURN(req.GetParent())
	}
	if ref := req.GetProvider(); ref != "" {
		provider, _ := cutLast(ref, "::") // the ID after it is known later
		rec.Provider = resource.URN(provider).Name()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.byURN[urn] != nil {
		return nil, fmt.Errorf("two resources are named %s", shortURN(urn))
	}
	m.byURN[urn] = rec
	if pkg := tokens.Type(req.GetType()).Package(); req.GetCustom() && req.GetVersion() != "" {
		m.plugins[string(pkg)] = req.GetVersion()
	}
	return &pulumirpc.RegisterResourceResponse{Urn: urn, Object: answer(req)}, nil
}

// answer is the registration's object as the program sees it: its inputs. The SDK takes what is absent for known later, but
// only as a whole: metadata goes where the Kubernetes provider would put a name of its own into it.
func answer(req *pulumirpc.RegisterResourceRequest) *structpb.Struct {
	object := req.GetObject()
	metadata := object.GetFields()["metadata"].GetStructValue()
	if tokens.Type(req.GetType()).Package() != "kubernetes" || metadata == nil || metadata.GetFields()["name"] != nil {
		return object
	}
	fields := maps.Clone(object.GetFields())
	delete(fields, "metadata")
	return &structpb.Struct{Fields: fields}
}

func (m *monitor) RegisterResourceOutputs(_ context.Context, req *pulumirpc.RegisterResourceOutputsRequest) (*emptypb.Empty, error) {
	outputs, err := plugin.UnmarshalProperties(req.GetOutputs(), plugin.MarshalOptions{KeepSecrets: true, KeepUnknowns: true, KeepResources: true})
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
		return cmp.Or(strings.Compare(a.Name+" "+a.Type, b.Name+" "+b.Type), strings.Compare(a.URN, b.URN))
	})
	return out
}

// aliases are the URNs that the resource says it had.
func aliases(stack Stack, req *pulumirpc.RegisterResourceRequest) []string {
	out := slices.Clone(req.GetAliasURNs())
	for _, a := range req.GetAliases() {
		spec := a.GetSpec()
		if spec == nil {
			out = append(out, a.GetUrn())
			continue
		}
		parent := req.GetParent()
		if spec.GetNoParent() {
			parent = ""
		} else if p := spec.GetParentUrn(); p != "" {
			parent = p
		}
		var parentType tokens.Type
		if u := resource.URN(parent); parent != "" && u.QualifiedType() != resource.RootStackType {
			parentType = u.QualifiedType()
		}
		out = append(out, string(resource.NewURN(tokens.QName(cmp.Or(spec.GetStack(), stack.Name)), tokens.PackageName(cmp.Or(spec.GetProject(), stack.Project)),
			parentType, tokens.Type(cmp.Or(spec.GetType(), req.GetType())), cmp.Or(spec.GetName(), req.GetName()))))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func computedFrom(inputs map[string]any, dependencies map[string]*pulumirpc.RegisterResourceRequest_PropertyDependencies) map[string][]string {
	var out map[string][]string
	for key, from := range dependencies {
		if !holdsComputed(inputs[key]) || len(from.GetUrns()) == 0 {
			continue
		}
		if out == nil {
			out = map[string][]string{}
		}
		for _, urn := range from.GetUrns() {
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
		ReplaceOnChanges: req.GetReplaceOnChanges(), IgnoreChanges: req.GetIgnoreChanges(), RetainOnDelete: req.GetRetainOnDelete(), Protect: req.GetProtect(),
		SecretOutputs: req.GetAdditionalSecretOutputs(), AfterCreate: req.GetHooks().GetAfterCreate(), AfterUpdate: req.GetHooks().GetAfterUpdate(),
		Version: req.GetVersion(),
	}
	if t := req.GetCustomTimeouts(); t.GetCreate() != "" || t.GetUpdate() != "" || t.GetDelete() != "" {
		o.Timeouts = &Timeouts{Create: t.GetCreate(), Update: t.GetUpdate(), Delete: t.GetDelete()}
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

// shortURN is "type name" of a URN.
func shortURN(urn string) string {
	u := resource.URN(urn)
	return string(u.Type()) + " " + u.Name()
}

// cutLast splits at the last sep.
func cutLast(s, sep string) (before, after string) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):]
	}
	return s, ""
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
