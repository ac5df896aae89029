package kubernetes

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/ml/mlenv"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// modelVolume is the name of a pod's volume that has the model's files.
const modelVolume = "modelfiles"

// maxConfigMap is what a ConfigMap holds at most, in bytes.
const maxConfigMap = 1 << 20

// What the Job that makes the model may take. The time is that of a download of tens of gigabytes.
// The tries are the command's own (see addJob).
const (
	modelDeadline = 2 * time.Hour
	modelTries    = 4
)

// modelResources are those of `ml model apply`: it talks to Ollama, which does the work.
var modelResources = stacks.Resources{CPU: 500, Memory: 256 * stacks.MiB}

// modelPlan is how the stack's model is made: a Job runs ml's own command against the
// service that serves models.
type modelPlan struct {
	digest string

	// client is ml, server what it makes the model in; nil when that is none of
	// the stack's services.
	client plan
	server *plan

	// shared is set when the replicas of the server read one volume: an Ollama
	// beside the Job fills it.
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
		client, ok := p.Contract.(*mlenv.Config)
		if !ok {
			continue
		}

		c := *client
		c.OptionalRedis = contract.OptionalRedis{} // what makes the model answers nobody
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

		if m.env, err = contract.Render(&c); err != nil {
			return nil, nil, fmt.Errorf("services.%s.contract: %w", p.Name, err)
		}

		return m, files, nil
	}

	return nil, files, nil
}

// calls reports whether the Job connects to the service.
func (m *modelPlan) calls(service string) bool {
	return m.server != nil && !m.shared && m.server.Name == service
}

// blocks reports whether the service starts after the Job: replicas that share a volume do not
// start on an empty one that they cannot write to. The client of the model starts before: it is not
// ready until exactly the wanted version is there.
func (m *modelPlan) blocks(service string) bool {
	return m.shared && m.server.Name == service
}

// asker returns the service whose ways out the Job has.
func (m *modelPlan) asker() stacks.Service {
	if m.shared {
		return m.server.Service
	}
	return m.client.Service
}

// resources returns those of the Job's containers.
func (m *modelPlan) resources() []corev1.ResourceRequirements {
	out := []corev1.ResourceRequirements{resourcesOf(modelResources, nil)}
	if m.shared {
		out = append(out, resourcesOf(m.server.Resources, nil))
	}
	return out
}

// args returns the command's arguments: with several replicas it waits until the name
// resolves to all of them.
func (m *modelPlan) args() []string {
	args := []string{"model", "apply", "--tries", strconv.Itoa(modelTries)}
	if m.replicas > 1 {
		args = append(args, "--replicas", strconv.Itoa(m.replicas))
	}
	return args
}

// name returns the Job's name: its hash is over everything in it, as a Job cannot be changed. So a
// changed Modelfile, base or number of replicas is a new Job, which shows in the preview and runs
// before the old one is removed.
func (m *modelPlan) name(
	files *modelFiles, names *corev1.PodDNSConfig, placed []any,
) (string, error) {
	all := []any{m.digest, m.args(), m.env, m.client.image, m.client.Security, files.data(),
		modelResources,
		modelDeadline}
	if m.shared {
		all = append(all, m.server.image, m.server.env, m.server.Command, m.server.Resources,
			m.server.Mounts)
	}
	if names != nil {
		all = append(all, names)
	}
	all = append(all, placed...)

	content, err := json.Marshal(all)
	if err != nil {
		return "", err
	}

	return stacks.ModelJob + "-" + shortHash(content), nil
}

// modelFiles are the files of the model's folder that ml reads.
type modelFiles struct {
	// text and binary by key; paths holds each key's path below modelfiles/.
	text, paths map[string]string
	binary      map[string][]byte

	// name is the ConfigMap's.
	name string
}

func (f *modelFiles) data() map[string]string {
	if f == nil {
		return nil
	}

	out := map[string]string{}
	for key, name := range f.paths {
		out[name] = f.text[key] + base64.StdEncoding.EncodeToString(f.binary[key])
	}

	return out
}

// planModelFiles reads what the model is made of, if a service mounts it.
func planModelFiles(stack stacks.Stack, root string) (*modelFiles, error) {
	if !stack.MountsModel() {
		return nil, nil
	}

	const at = "model.modelfile"
	list, err := stack.Model.Files(os.DirFS(root))
	if err != nil {
		return nil, err
	}

	f := &modelFiles{
		text:   map[string]string{},
		binary: map[string][]byte{},
		paths:  map[string]string{},
	}

	size := int64(0)
	for _, x := range list {
		info, err := os.Stat(filepath.Join(root, x.Source))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", at, err)
		}

		if size += info.Size(); size > maxConfigMap {
			return nil, cannot(at, "%s and what it names are more than the 1 MiB that a ConfigMap "+
				"holds: publish the weights as a model of a registry, and name that in FROM",
				stack.Model.Modelfile)
		}

		content, err := os.ReadFile(filepath.Join(root, x.Source))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", at, err)
		}

		key := fileKey(x.Path)
		if !keyRule.MatchString(key) {
			return nil, cannot(at, "rename %q: "+keyRuleText, x.Source)
		}

		f.paths[key] = x.Path
		if utf8.Valid(content) {
			f.text[key] = string(content)
		} else {
			f.binary[key] = content
		}
	}

	return f, nil
}

// source returns the volume that has the files at their paths.
func (f *modelFiles) source() corev1.VolumeSource {
	v := &corev1.ConfigMapVolumeSource{DefaultMode: new(int32(fileMode))}
	v.Name = f.name
	for _, key := range slices.Sorted(maps.Keys(f.paths)) {
		v.Items = append(v.Items, corev1.KeyToPath{Key: key, Path: f.paths[key]})
	}
	return corev1.VolumeSource{ConfigMap: v}
}

// addModelFiles makes the files that ml mounts, and the Job.
func (r *renderer) addModelFiles() error {
	if r.files == nil {
		return nil
	}

	m, err := r.addConfigMap("modelfiles", stacks.ModelJob, r.files.text, r.files.binary)
	if err != nil {
		return err
	}

	r.files.name = m.GetName()
	return nil
}

// addJob makes the model, and Pulumi waits until it is done.
func (r *renderer) addJob() error {
	m, labels := r.model, r.labelsOf(stacks.ModelJob)
	template, err := r.jobTemplate(labels)
	if err != nil {
		return err
	}

	name, err := m.name(r.files, template.Spec.DNSConfig, r.placed())
	if err != nil {
		return err
	}

	account, policy := r.addAccount(stacks.ModelJob), r.addJobPolicy()
	after := append([]*Object{account, policy}, r.fences...)
	if m.server != nil && !m.shared {
		after = append(after, r.parts[m.server.Name]...)
		// Pulumi waits for the Job, for hours where it downloads: an Ollama that does not
		// come up is said before.
		account.Awaits = m.server.Name
	}

	// The Job's own bound is first, and says so.
	bound := (modelDeadline + time.Minute).String()
	r.job = r.add(&Object{
		Resource: stacks.ModelJob, Component: stacks.ModelJob, After: after,
		Timeouts: &pulumi.CustomTimeouts{Create: bound, Update: bound},
		// Replaced when it failed: the next `up` tries again. No time to live: a Job that removes
		// itself would come back with every `up` after a refresh.
		Annotations: map[string]string{"pulumi.com/replaceUnready": "true"},
		API: &batchv1.Job{ObjectMeta: r.meta(name, labels), Spec: batchv1.JobSpec{
			Template:              template,
			ActiveDeadlineSeconds: new(int64(seconds(modelDeadline))),
			// The command tries again by itself, and knows when that is in vain: then the Job
			// fails at once. A failure policy by exit status would be the same for Kubernetes, but
			// not for Pulumi 4.25, which knows a failed Job by the backoff's reason or the
			// deadline's, and would wait on.
			BackoffLimit: new(int32(0)),
			// One maker at a time: the next one waits until the last one is gone.
			PodReplacementPolicy: new(batchv1.Failed),
			PodFailurePolicy:     failurePolicy(),
		}},
	})

	return nil
}

// failurePolicy lets a drain or a preemption take the pod away without failing the Job: another one
// goes on, with what is downloaded. What the API server would fill in is said.
func failurePolicy() *batchv1.PodFailurePolicy {
	return &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
		Action: batchv1.PodFailurePolicyActionIgnore,
		OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{
			{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue},
		},
	}}}
}

// jobTemplate returns ml's container with another command and, where the volume is shared, an
// Ollama that writes to it.
func (r *renderer) jobTemplate(labels map[string]string) (corev1.PodTemplateSpec, error) {
	m := r.model
	mounted := volumes{}
	r.mountVolumes(m.client, &mounted, false)
	// It shows the certificate of the service whose command it runs.
	own := plan{Service: stacks.Service{Name: stacks.ModelJob, Files: m.client.CertificateFiles()}}
	if err := r.addFiles(own, &mounted); err != nil {
		return corev1.PodTemplateSpec{}, err
	}

	mounts := mounted.mounts
	security := m.client.Security
	var sidecars []corev1.Container
	if m.shared {
		server := *m.server
		server.GPU = nil // a model is made without being run fast
		mounted.mounts = nil
		r.mountVolumes(server, &mounted, true)
		c := container(server)
		c.VolumeMounts = mounted.mounts
		// a sidecar: up before the Job's container, gone after it
		c.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
		sidecars = append(sidecars, c)
		security = server.Security
	}

	spec := podSpec(stacks.ModelJob, security, mounted)
	// the pod that failed keeps its log; failurePolicy needs it
	spec.RestartPolicy = corev1.RestartPolicyNever
	spec.InitContainers = sidecars
	spec.Containers = []corev1.Container{{
		Name:                     m.client.Name,
		Image:                    m.client.image,
		ImagePullPolicy:          corev1.PullIfNotPresent,
		Args:                     m.args(),
		Env:                      variables(m.env),
		VolumeMounts:             mounts,
		Resources:                resourcesOf(modelResources, nil),
		SecurityContext:          containerSecurity(m.client.Security),
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
	}}
	if r.asksResolver(m.asker()) {
		r.askResolver(&spec)
	}

	pod := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec}
	r.place(&pod, stacks.ModelJob, nil)
	return pod, nil
}

// addJobPolicy lets the Job reach what it makes the model in; a sidecar reaches what that
// service does, to download.
func (r *renderer) addJobPolicy() *Object {
	egress := []egressRule{r.toNames(r.model.asker())}
	if m := r.model; m.shared {
		egress = append(egress, outside(m.server.Outside)...)
	} else if m.server != nil {
		egress = append(egress, r.toService(m.server.Name))
	} else {
		egress = append(egress, outside(m.client.Outside)...)
	}

	return r.addPolicy(stacks.ModelJob, stacks.ModelJob, *r.selector(stacks.ModelJob), nil, egress)
}
