package kubernetes

import (
	"encoding/base64"
	"fmt"
	"path"

	"github.com/pulumi/pulumi-docker/sdk/v4/go/docker"
	"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes"
	"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/utilities"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/codexcontinue/codexcontinue/infra/secret"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// deployment is one run of Provision.
type deployment struct {
	*Rendering
	ctx     *pulumi.Context
	secrets map[string]pulumi.StringOutput // by Secret.Name

	// cluster makes everything but the objects that are Kept, which are kept's.
	cluster, kept *kubernetes.Provider
	components    map[string]*component
	resources     map[*Object]*registered

	// known is what provisioning makes of the names in a rendering, by "kind name".
	known   map[string]pulumi.StringOutput
	waiting *waiting
}

// component groups the objects of a service, of the model or of the namespace.
type component struct{ pulumi.ResourceState }

// registered is an object that Pulumi knows.
type registered struct {
	pulumi.CustomResourceState
	Metadata pulumi.MapOutput `pulumi:"metadata"`
	Spec     pulumi.MapOutput `pulumi:"spec"`
	Status   pulumi.MapOutput `pulumi:"status"`
}

// name returns the object's name in the cluster.
func (r *registered) name() pulumi.StringOutput {
	return r.Metadata.ApplyT(func(metadata map[string]any) string {
		name, _ := metadata["name"].(string)
		return name
	}).(pulumi.StringOutput)
}

// clusterIP returns the address of a Service. Until the Service is made it is not known, as its ID
// is not: a preview's dry run answers with an address that nobody gets.
func (r *registered) clusterIP() pulumi.StringOutput {
	return pulumi.All(r.ID(), r.Spec).ApplyT(func(known []any) string {
		spec, _ := known[1].(map[string]any)
		address, _ := spec["clusterIP"].(string)
		return address
	}).(pulumi.StringOutput)
}

// Provision registers what is rendered, and waits until it works. It is no method, so that whoever
// reads a rendering does not compile Pulumi's types.
func Provision(ctx *pulumi.Context, r *Rendering) (Outputs, error) {
	d := &deployment{
		Rendering:  r,
		ctx:        ctx,
		components: map[string]*component{},
		resources:  map[*Object]*registered{},
		known:      map[string]pulumi.StringOutput{},
		waiting:    newWaiting(r.plans, r.model),
	}

	var err error
	d.secrets, err = secret.Values(ctx, stacks.Project, r.stack.Name, r.stack.SecretKeys(),
		r.stack.CheckSecret)
	if err != nil {
		return Outputs{}, err
	}
	if err := d.addProviders(); err != nil {
		return Outputs{}, err
	}

	// The model's Job runs the images of services that start after it.
	out := Outputs{Images: pulumi.StringMap{}, Context: r.opts.Context}
	var names []string
	for _, p := range r.plans {
		if out.Images[p.Name], err = d.addImage(p); err != nil {
			return Outputs{}, fmt.Errorf("services.%s: image: %w", p.Name, err)
		}
		names = append(names, p.Name)
	}

	last := map[string]*Object{} // of a component
	for _, o := range r.Objects {
		last[o.Component] = o
	}

	for _, o := range r.Objects {
		if o.Awaits != "" {
			if err := d.await(o.Awaits); err != nil {
				return Outputs{}, err
			}
		}

		err := d.register(o)
		if err == nil && last[o.Component] == o {
			err = d.ctx.RegisterResourceOutputs(d.components[o.Component],
				d.outputs(o.Component, out))
		}

		if err != nil {
			return Outputs{}, fmt.Errorf("%s: %w", o, err)
		}
	}

	out.Namespace = d.namespace()
	for _, p := range r.plans {
		if p.Name == stacks.Edge && len(p.Ports) > 0 {
			out.URL, out.Forward = d.edgeURL(p)
		}
	}

	return out, d.await(names...)
}

// outputs returns those of the component.
func (d *deployment) outputs(name string, out Outputs) pulumi.Map {
	switch {
	case name == "":
		return pulumi.Map{"name": d.namespace()}
	case name != stacks.ModelJob:
		workload := d.parts[name][0].kind() + "/" + name
		return pulumi.Map{
			"image":     out.Images[name],
			"workload":  pulumi.String(workload),
			"namespace": d.namespace(),
		}
	case d.job == nil:
		return pulumi.Map{}
	}

	return pulumi.Map{
		"job": pulumi.String(d.job.GetName()), "digest": pulumi.String(d.model.digest),
	}
}

func (d *deployment) namespace() pulumi.StringOutput {
	return d.known["Namespace "+d.opts.Namespace]
}

// addProviders makes the connections to the cluster of the kubeconfig that kubectl would use.
func (d *deployment) addProviders() error {
	connection := func() *kubernetes.ProviderArgs {
		args := &kubernetes.ProviderArgs{
			EnableServerSideApply: pulumi.Bool(true),
			// Never a new cluster because the kubeconfig or the context's name changed: everything
			// would be replaced, also in the same cluster. A stack moves by `down` and `up`.
			ClusterIdentifier: pulumi.String(stacks.Project + "-" + d.stack.Name),
			// Nothing, which the plugin takes from KUBECONFIG or the home directory as kubectl
			// does. Left out, this machine's KUBECONFIG would be part of the plan and of the state.
			Kubeconfig: pulumi.String("").ToStringOutput().ApplyT(func(string) *string {
				return nil
			}).(pulumi.StringPtrOutput),
		}
		if d.opts.Context != "" {
			args.Context = pulumi.String(d.opts.Context)
		}

		return args
	}

	var err error
	if d.cluster, err = kubernetes.NewProvider(d.ctx, "cluster", connection()); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}

	// What destroying a stack keeps is there already when the stack comes back: it is taken over,
	// with the fields that the stack wrote when it was last there. Nothing else is, so that an
	// object of somebody else's is an error.
	kept := connection()
	kept.UpsertExistingObjects, kept.EnablePatchForce = pulumi.Bool(true), pulumi.Bool(true)
	if d.kept, err = kubernetes.NewProvider(d.ctx, "cluster-kept", kept); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}

	return nil
}

// component returns the one of that name. It is registered when it is first asked for.
func (d *deployment) component(name string) (*component, error) {
	if c := d.components[name]; c != nil {
		return c, nil
	}

	token, as := "Service", name
	switch name {
	case "":
		token, as = "Namespace", "namespace"
	case stacks.ModelJob:
		token = "Model"
	}

	c := &component{}
	d.components[name] = c
	return c, d.ctx.RegisterComponentResource("codexcontinue:kubernetes:"+token, as, c)
}

// Kinds of what is named and is no object: images, and addresses of name servers.
const (
	kindImage   = "Image"
	kindAddress = "Address"
)

// addImage returns the reference that pods use: of what is pushed the digest, which cannot come
// to mean another image.
func (d *deployment) addImage(p plan) (pulumi.StringOutput, error) {
	parent, err := d.component(p.Name)
	b := p.Image.Build
	// An image for several platforms is an index, which the provider does not make: codexctl pushes
	// it before the program runs, under the tag that names its content.
	pushed := p.brought || len(d.stack.Platforms) > 1
	if err != nil || b == nil || d.stack.Registry == "" || pushed {
		return pulumi.String(p.image).ToStringOutput(), err
	}

	// The engine starts the provider in the folder of the Pulumi program (main: infra in
	// Pulumi.yaml), one below the project's root. The credentials are those of `docker login`.
	made, err := docker.NewImage(d.ctx, p.Name, &docker.ImageArgs{
		ImageName: pulumi.String(p.image),
		Build: &docker.DockerBuildArgs{
			Context:        pulumi.String(path.Join("..", path.Clean(b.Context))),
			Dockerfile:     pulumi.String(path.Join("..", path.Clean(b.Dockerfile))),
			Target:         pulumi.String(b.Target),
			Args:           pulumi.ToStringMap(b.Args),
			BuilderVersion: docker.BuilderVersionBuilderBuildKit,
			Platform:       pulumi.String(d.stack.Platform()),
		},
		SkipPush:       pulumi.Bool(false),
		BuildOnPreview: pulumi.Bool(false),
	}, pulumi.Parent(parent), pulumi.ReplaceOnChanges([]string{"imageName"}))
	if err != nil {
		return pulumi.StringOutput{}, err
	}

	d.known[kindImage+" "+p.image] = made.RepoDigest
	return made.RepoDigest, nil
}

// register registers the object under its own type, as the constructors of Pulumi's SDK do. There
// are eight thousand of these, which a program that uses one compiles and links.
func (d *deployment) register(o *Object) error {
	inputs, err := d.inputs(o)
	if err != nil {
		return err
	}

	parent, err := d.component(o.Component)
	if err != nil {
		return err
	}

	by := d.cluster
	if o.Kept {
		by = d.kept
	}

	after := make([]pulumi.Resource, len(o.After))
	for i, a := range o.After {
		after[i] = d.resources[a]
	}

	opts := []pulumi.ResourceOption{
		pulumi.Parent(parent), pulumi.Provider(by), pulumi.DependsOn(after),
		pulumi.RetainOnDelete(o.Retained), pulumi.IgnoreChanges(o.Begins),
	}
	if o.Timeouts != nil {
		opts = append(opts, pulumi.Timeouts(o.Timeouts))
	}
	if o.Files != nil {
		opts = append(opts, pulumi.AdditionalSecretOutputs([]string{"data", "stringData"}))
	}

	group := o.GetObjectKind().GroupVersionKind().GroupVersion().String()
	if group == corev1.SchemeGroupVersion.String() {
		group = "core/" + group
	}

	made := &registered{}
	err = d.ctx.RegisterResource("kubernetes:"+group+":"+o.kind(), o.Resource, inputs, made,
		utilities.PkgResourceDefaultOpts(opts)...) // the version of the plugin
	d.resources[o] = made
	d.known[o.String()] = made.name()
	if o.String() == "Service "+stacks.Resolver {
		d.known[kindAddress+" "+ResolverAddress] = made.clusterIP()
	}
	return err
}

// inputs returns the object's fields, with what provisioning makes of the names in them.
func (d *deployment) inputs(o *Object) (pulumi.Map, error) {
	fields, err := o.Fields()
	if err != nil {
		return nil, err
	}

	inputs := d.input("", "", fields).(pulumi.Map)
	metadata := inputs["metadata"].(pulumi.Map)
	if len(o.Annotations) > 0 {
		annotations, ok := metadata["annotations"].(pulumi.Map)
		if !ok {
			annotations = pulumi.Map{}
			metadata["annotations"] = annotations
		}

		for key, value := range o.Annotations {
			annotations[key] = pulumi.String(value)
		}
	}

	if o.Files != nil {
		values := pulumi.StringMap{}
		for key, f := range o.Files {
			values[key] = d.secrets[f.Secret].ApplyT(func(value string) string {
				return base64.StdEncoding.EncodeToString([]byte(f.Text(value)))
			}).(pulumi.StringOutput)
		}

		inputs["data"] = values.ToStringMapOutput() // a secret as a whole
		delete(inputs, "stringData")
		delete(metadata, "name") // Pulumi chooses it
	}

	return inputs, nil
}

// references are where an object names another one, an image or an address: the last two keys of the
// path, and the kind of what is named.
var references = map[string]string{
	"metadata.namespace":              "Namespace",
	"configMap.name":                  "ConfigMap",
	"secret.name":                     "Secret",
	"persistentVolumeClaim.claimName": "PersistentVolumeClaim",
	"containers.image":                kindImage,
	"initContainers.image":            kindImage,
	"dnsConfig.nameservers":           kindAddress,
}

// input returns the value at key, which lies in what is at parent. An element of a list is at the
// key of the list. A reference becomes an output of what it names, and so a dependency.
//
// It does without pulumi.Any, which instantiates Pulumi's generic outputs for a hundred types: that
// alone was most of the time in which this package compiles.
func (d *deployment) input(parent, key string, v any) pulumi.Input {
	switch v := v.(type) {
	case map[string]any:
		out := pulumi.Map{}
		for k, x := range v {
			out[k] = d.input(key, k, x)
		}
		return out
	case []any:
		out := pulumi.Array{}
		for _, x := range v {
			out = append(out, d.input(parent, key, x))
		}
		return out
	case string:
		if made, ok := d.known[references[parent+"."+key]+" "+v]; ok {
			return made
		}
		return pulumi.String(v)
	case bool:
		return pulumi.Bool(v)
	case int64:
		return pulumi.Int(v)
	case float64:
		return pulumi.Float64(v)
	}

	return nil // JSON's null
}

// edgeURL returns where people go, or how to get there.
func (d *deployment) edgeURL(p plan) (url pulumi.StringInput, forward string) {
	known, forward, balanced := d.Rendering.edgeURL(p)
	switch {
	case known != "":
		return pulumi.String(known), ""
	case !balanced:
		return nil, forward
	}

	service := d.resources[d.parts[p.Name][1]]
	return service.Status.ApplyT(func(fields map[string]any) (string, error) {
		var status corev1.ServiceStatus
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(fields, &status); err != nil {
			return "", err
		}

		for _, at := range status.LoadBalancer.Ingress {
			for _, host := range []string{at.Hostname, at.IP} {
				if host != "" {
					return httpURL(host, servicePort(p)), nil
				}
			}
		}

		return "", nil
	}).(pulumi.StringOutput), ""
}
