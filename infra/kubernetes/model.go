package kubernetes

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/codexcontinue/codexcontinue/modelfiles"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/stacks"
	batchv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/batch/v1"
	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	networkingv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/networking/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// modelType is the type token of the component that makes the model.
const modelType = "codexcontinue:kubernetes:Model"

// modelfilesSource is the one folder of the checkout that pods can mount.
const modelfilesSource = "modelfiles"

// maxConfigMap is what a ConfigMap holds at most, in bytes.
const maxConfigMap = 1 << 20

// What the Job that makes the model may take. The time is that of a download of tens of gigabytes. The tries are the command's
// own (see addJob).
const (
	modelDeadline = 2 * time.Hour
	modelTries    = 4
)

// modelResources are those of `ml model apply`: it talks to Ollama, which does the work.
var modelResources = stacks.Resources{CPU: 500, Memory: 256 * stacks.MiB}

// modelPlan is how the stack's model is made: a Job runs ml's own command against the service that serves models.
type modelPlan struct {
	digest string
	// client is ml, server what it makes the model in; nil when that is none of the stack's services.
	client plan
	server *plan
	// shared is set when the replicas of the server read one volume: an Ollama beside the Job fills it.
	shared bool
	// env and replicas are the command's.
	env      map[string]string
	replicas int
}

// planModel finds the service with ml's contract. A stack without has no model to make.
func planModel(stack stacks.Stack, plans []plan, root string) (*modelPlan, *modelFiles, error) {
	files, err := planModelFiles(stack, root)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range plans {
		c, ok := p.Contract.(contract.ML)
		if !ok {
			continue
		}
		m := &modelPlan{digest: stack.Model.Digest, client: p, replicas: 1}
		at, err := url.Parse(c.OllamaURL)
		if err != nil {
			return nil, nil, fmt.Errorf("services.%s.contract: OLLAMA_API_URL: %w", p.Name, err)
		}
		for i := range plans {
			if plans[i].Name == at.Hostname() {
				m.server, m.replicas = &plans[i], plans[i].Replicas
			}
		}
		if m.server != nil {
			_, m.shared = sharedVolume(stack, m.server.Service)
		}
		if m.shared {
			at.Host, m.replicas = "127.0.0.1:"+at.Port(), 1
			c.OllamaURL = at.String()
		}
		if m.env, err = contract.Render(c.WithoutRedis()); err != nil {
			return nil, nil, fmt.Errorf("services.%s.contract: %w", p.Name, err)
		}
		return m, files, nil
	}
	return nil, files, nil
}

// calls says that the Job connects to the service.
func (m *modelPlan) calls(service string) bool {
	return m.server != nil && !m.shared && m.server.Name == service
}

// before says that the service starts after the Job: replicas that share a volume do not start on an empty one that they
// cannot write to. The client of the model starts before: it is not ready until exactly the wanted version is there.
func (m *modelPlan) before(service string) bool {
	return m.shared && m.server.Name == service
}

// resources are those of the Job's containers.
func (m *modelPlan) resources() []resources {
	out := []resources{resourcesOf(modelResources, nil)}
	if m.shared {
		out = append(out, resourcesOf(m.server.Resources, nil))
	}
	return out
}

// args are the command's: with several replicas it waits until the name resolves to all of them.
func (m *modelPlan) args() []string {
	args := []string{"model", "apply", "--tries", strconv.Itoa(modelTries)}
	if m.replicas > 1 {
		args = append(args, "--replicas", strconv.Itoa(m.replicas))
	}
	return args
}

// name is the Job's: its hash is over everything in it, as a Job cannot be changed. So a changed Modelfile, base or number
// of replicas is a new Job, which shows in the preview and runs before the old one is removed.
func (m *modelPlan) name(files *modelFiles) (string, error) {
	all := []any{m.digest, m.args(), m.env, m.client.image.ref, m.client.Security, files.data(), modelResources,
		modelDeadline}
	if m.shared {
		all = append(all, m.server.image.ref, m.server.env, m.server.Command, m.server.Resources, m.server.Mounts)
	}
	content, err := json.Marshal(all)
	if err != nil {
		return "", err
	}
	return stacks.ModelJob + "-" + shortHash(content), nil
}

// modelFiles are the files of the model's folder that ml reads.
type modelFiles struct {
	// text and binary by key; paths holds each key's path below modelfiles/.
	text, binary, paths map[string]string

	configMap *corev1.ConfigMap
}

func (f *modelFiles) data() map[string]string {
	if f == nil {
		return nil
	}
	out := map[string]string{}
	for key, name := range f.paths {
		out[name] = f.text[key] + f.binary[key]
	}
	return out
}

// planModelFiles reads the stack's Modelfile and the files it names: what else lies in the folder is not the stack's.
func planModelFiles(stack stacks.Stack, root string) (*modelFiles, error) {
	mounted := false
	for _, svc := range stack.Services {
		for _, m := range svc.Mounts {
			mounted = mounted || m.Kind == stacks.MountBind
		}
	}
	if !mounted {
		return nil, nil
	}
	const at = "model.modelfile"
	m, err := modelfiles.Load(os.DirFS(root), stack.Model.Modelfile, stack.Model.Base)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", at, err)
	}
	names := []string{stack.Model.Modelfile}
	for _, name := range m.Files {
		names = append(names, path.Join(path.Dir(stack.Model.Modelfile), name))
	}
	f := &modelFiles{text: map[string]string{}, binary: map[string]string{}, paths: map[string]string{}}
	size := int64(0)
	for _, name := range names {
		inside, err := filepath.Rel(modelfilesSource, name)
		if err != nil || !filepath.IsLocal(inside) {
			return nil, fmt.Errorf("%s: %q does not lie in %s/, which is what ml can read", at, name, modelfilesSource)
		}
		info, err := os.Stat(filepath.Join(root, name))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", at, err)
		}
		if size += info.Size(); size > maxConfigMap {
			return nil, cannot(at, fmt.Sprintf("%s and what it names are more than the 1 MiB that a ConfigMap holds: publish the weights as a model of a registry, and name that in FROM", stack.Model.Modelfile))
		}
		content, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", at, err)
		}
		key := fileKey(filepath.ToSlash(inside))
		if !keyRule.MatchString(key) {
			return nil, cannot(at, fmt.Sprintf("rename %q: its path may have letters, digits, dots, dashes and underscores", name))
		}
		f.paths[key] = filepath.ToSlash(inside)
		if utf8.Valid(content) {
			f.text[key] = string(content)
		} else {
			f.binary[key] = base64.StdEncoding.EncodeToString(content)
		}
	}
	return f, nil
}

// volume mounts the files at their paths.
func (f *modelFiles) volume() corev1.VolumeArgs {
	var items corev1.KeyToPathArray
	for _, key := range slices.Sorted(maps.Keys(f.paths)) {
		items = append(items, corev1.KeyToPathArgs{Key: pulumi.String(key), Path: pulumi.String(f.paths[key])})
	}
	return corev1.VolumeArgs{Name: pulumi.String(modelfilesSource), ConfigMap: corev1.ConfigMapVolumeSourceArgs{
		Name: f.configMap.Metadata.Name(), Items: items, DefaultMode: pulumi.Int(fileMode),
	}}
}

// addModel registers what makes the model: its files now, as ml mounts them too.
func (d *deployment) addModel() error {
	if d.model == nil && d.files == nil {
		return nil
	}
	d.maker = &maker{}
	if err := d.ctx.RegisterComponentResource(modelType, stacks.ModelJob, d.maker); err != nil {
		return fmt.Errorf("model: %w", err)
	}
	if d.files == nil {
		return nil
	}
	var err error
	d.files.configMap, err = d.addConfigMap("modelfiles", workloadLabels(d.stack, stacks.ModelJob), d.files.text, d.files.binary, d.maker)
	return err
}

// maker is the component that makes the model.
type maker struct{ pulumi.ResourceState }

// addJob makes the model, and Pulumi waits until it is done. It is called when what the model is made in is ready.
func (d *deployment) addJob() error {
	m, labels := d.model, workloadLabels(d.stack, stacks.ModelJob)
	account, err := d.addAccount(stacks.ModelJob, labels, d.maker)
	if err != nil {
		return err
	}
	policy, err := d.addJobPolicy(labels)
	if err != nil {
		return err
	}
	name, err := m.name(d.files)
	if err != nil {
		return err
	}
	after := append([]pulumi.Resource{account, policy}, d.fences...)
	if m.server != nil && !m.shared {
		after = append(after, d.services[m.server.Name].parts...)
	}
	// Replaced when it failed: the next `up` tries again. No time to live: a Job that removes itself would come back with
	// every `up` after a refresh.
	annotations := map[string]string{"pulumi.com/replaceUnready": "true"}
	job, err := batchv1.NewJob(d.ctx, stacks.ModelJob, &batchv1.JobArgs{
		Metadata: d.meta(name, labels, annotations),
		Spec: batchv1.JobSpecArgs{
			Template: d.jobTemplate(labels), ActiveDeadlineSeconds: pulumi.Int(seconds(modelDeadline)),
			// The command tries again by itself, and knows when that is in vain: then the Job fails at once. A failure policy by
			// exit status would be the same for Kubernetes, but not for Pulumi 4.25, which knows a failed Job by the backoff's
			// reason or the deadline's, and would wait on.
			BackoffLimit: pulumi.Int(0),
			// One maker at a time: the next one waits until the last one is gone.
			PodReplacementPolicy: pulumi.String("Failed"), PodFailurePolicy: failurePolicy(),
		},
	}, pulumi.Parent(d.maker), pulumi.Provider(d.cluster), pulumi.DependsOn(after),
		// The Job's own bound is first, and says so.
		pulumi.Timeouts(&pulumi.CustomTimeouts{Create: (modelDeadline + time.Minute).String(), Update: (modelDeadline + time.Minute).String()}))
	if err != nil {
		return err
	}
	d.job = job
	return d.ctx.RegisterResourceOutputs(d.maker, pulumi.Map{"job": pulumi.String(name), "digest": pulumi.String(m.digest)})
}

// failurePolicy lets a drain or a preemption take the pod away without failing the Job: another one goes on, with what is
// downloaded. What the API server would fill in is said.
func failurePolicy() batchv1.PodFailurePolicyArgs {
	return batchv1.PodFailurePolicyArgs{Rules: batchv1.PodFailurePolicyRuleArray{
		batchv1.PodFailurePolicyRuleArgs{Action: pulumi.String("Ignore"), OnPodConditions: batchv1.PodFailurePolicyOnPodConditionsPatternArray{
			batchv1.PodFailurePolicyOnPodConditionsPatternArgs{Type: pulumi.String("DisruptionTarget"), Status: pulumi.String("True")},
		}},
	}}
}

// jobTemplate is ml's container with another command and, where the volume is shared, an Ollama that writes to it.
func (d *deployment) jobTemplate(labels map[string]string) corev1.PodTemplateSpecArgs {
	m := d.model
	mounted := volumes{}
	d.mountVolumes(m.client, &mounted, false)
	own := mounted.mounts
	security := m.client.Security
	var sidecars corev1.ContainerArray
	if m.shared {
		server := *m.server
		server.GPU = nil // a model is made without being run fast
		mounted.mounts = nil
		d.mountVolumes(server, &mounted, true)
		c := containerArgs(server, d.services[server.Name].image)
		c.VolumeMounts = mounted.mounts
		c.RestartPolicy = pulumi.String("Always") // a sidecar: up before the Job's container, gone after it
		sidecars = append(sidecars, c)
		security = server.Security
	}
	spec := d.podSpec(stacks.ModelJob, security, mounted)
	spec.RestartPolicy = pulumi.String("Never") // the pod that failed keeps its log; failurePolicy needs it
	if len(sidecars) > 0 {
		spec.InitContainers = sidecars
	}
	spec.Containers = corev1.ContainerArray{corev1.ContainerArgs{
		Name: pulumi.String(m.client.Name), Image: d.services[m.client.Name].image.ToStringPtrOutput(), ImagePullPolicy: pulumi.String("IfNotPresent"),
		Args: pulumi.ToStringArray(m.args()), Env: variables(m.env), VolumeMounts: own,
		Resources: resourcesOf(modelResources, nil).args(), SecurityContext: containerSecurity(m.client.Security),
		TerminationMessagePolicy: pulumi.String("FallbackToLogsOnError"),
	}}
	return corev1.PodTemplateSpecArgs{Metadata: &metav1.ObjectMetaArgs{Labels: pulumi.ToStringMap(labels)}, Spec: spec}
}

// addJobPolicy lets the Job reach what it makes the model in; a sidecar reaches what that service does, to download.
func (d *deployment) addJobPolicy(labels map[string]string) (pulumi.Resource, error) {
	egress := networkingv1.NetworkPolicyEgressRuleArray{toDNS()}
	if m := d.model; m.shared {
		egress = append(egress, outside(m.server.Outside)...)
	} else if m.server != nil {
		egress = append(egress, d.toService(m.server.Name))
	} else {
		egress = append(egress, outside(m.client.Outside)...)
	}
	return d.addPolicy(stacks.ModelJob, labels, labelSelector(selector(d.stack, stacks.ModelJob)), nil, egress, d.maker)
}
