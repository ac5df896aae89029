// Package stacks describes what runs: one typed, neutral description that every target provisions.
// It knows nothing of Pulumi, Docker or Kubernetes.
//
// Load builds a Stack in three steps: the base, the typed overlay of the stack's name, and the
// settings of its Pulumi.<stack>.yaml. Validate reports every problem of the result at once.
package stacks

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/stacks/authority"
)

// Bytes is an amount of memory or disk in bytes.
type Bytes int64

// Binary multiples of a byte.
const (
	KiB Bytes = 1 << 10
	MiB Bytes = 1 << 20
	GiB Bytes = 1 << 30
)

// MilliCPU is processor time in thousandths of a core: 1500 is one and a half cores.
type MilliCPU int64

// Project is the name that every resource carries in its labels and its physical name.
const Project = "codexcontinue"

// Labels by which tools select what belongs to a stack, on every target.
const (
	LabelProject = "dev.codexcontinue.project"
	LabelStack   = "dev.codexcontinue.stack"
	LabelService = "dev.codexcontinue.service"
)

// Names of the base's services, networks, volumes and secrets.
const (
	Edge     = "edge"
	Frontend = "frontend"
	Backend  = "backend"
	ML       = "ml"
	Redis    = "redis"
	Ollama   = "ollama"

	MainNetwork = "codexcontinue-network"

	RedisData, OllamaData = "redis-data", "ollama-data"

	RedisPassword = "redis-password"

	// ModelJob is the LabelService of the job that makes the model where ml does not. No service
	// has this name.
	ModelJob = "model"
)

// Stack is everything one `pulumi up` provisions.
type Stack struct {
	// Name is the Pulumi stack's name: dev, prod, healthcare, ...
	Name string

	// Development stacks mount the sources and may publish every service on the machine's loopback
	// address; they stop at once, where others let every answer end.
	Development bool

	// Domain is what the stack is about: the folder of modelfiles whose texts people see.
	Domain string

	// Safeguarded stacks are for what is about patients. The policy holds them to sign-in, the end
	// of sessions and conversations, the audit, TLS inside, evals and no way out, and programs get
	// no answers without the prompt of their model. The overlay says so, or the domain, and no
	// setting takes it back: another Domain changes what people see, and not what they write.
	Safeguarded bool

	// Networks, Volumes and Secrets are referred to by name from Services.
	Networks []Network
	Volumes  []Volume
	Secrets  []Secret

	// Services in the order of the base; start order follows DependsOn alone.
	Services []Service
	Model    Model

	// Route is how people reach the edge by a name, through the cluster's gateway or ingress. It is
	// nil if the published port of the edge is all there is.
	Route *Route

	// TLS makes the edge itself end TLS; nil leaves that to what stands before it.
	TLS *EdgeTLS

	// TrustedProxies are the networks, such as 10.1.2.0/24, of the gateways before the edge: what
	// they say of a request's scheme, host and address is believed.
	TrustedProxies []string

	// Registry is where built images are pushed to, such as registry.example.com/team, so that
	// other machines can pull them. It is empty if they stay where they are built.
	Registry string

	// Platforms are those of the machines that it runs on, such as linux/amd64: its images are
	// built for them. None stands for DefaultPlatform.
	Platforms []string

	// AuditRetention is how long records of the audit are kept at least. It is 0 if nothing drops
	// them, or nothing is recorded.
	AuditRetention time.Duration

	// BackupWeights reports whether the Weights of the Model are kept with the backups, whatever their
	// size.
	BackupWeights bool `json:",omitempty"`

	// RatingsChosen reports whether the settings have switched ratings of answers on, and not merely the
	// stack's kind.
	RatingsChosen bool

	// Waivers let single violations of the policy pass.
	Waivers []Waiver
}

// Route is a host name under which the edge is reached over HTTP.
type Route struct {
	// Host is the DNS name people type.
	Host string

	// Gateway routes through the Gateway API; Ingress through an Ingress
	// instead. Exactly one is set.
	Gateway *Gateway
	Ingress *Ingress

	// TLS encrypts; nil leaves encryption to whatever stands before the route.
	TLS *TLS
}

// Gateway is a Gateway of the Gateway API.
type Gateway struct {
	// Name and Namespace are those of a Gateway that is there already and lets the stack's
	// namespace attach routes. TLS is its owner's business then.
	Name, Namespace string
	// Class makes the stack bring its own Gateway of this GatewayClass instead.
	Class string
}

// Ingress is an Ingress of an IngressClass.
type Ingress struct {
	Class string
}

// TLS is where the certificate comes from. Exactly one field is set.
type TLS struct {
	// Secret names a TLS secret that somebody else keeps in the stack's namespace.
	Secret string
	// Issuer and ClusterIssuer name what cert-manager asks for a certificate.
	Issuer, ClusterIssuer string
}

// Waiver lets one violation of one policy rule pass until a date.
type Waiver struct {
	// Rule is the rule's id; Subject the resource or service it is waived for.
	Rule, Subject string

	// Reason is what a reviewer accepted.
	Reason string

	// Expires is the first day (UTC) on which the waiver is void.
	Expires time.Time
}

// Network is a private network of the stack.
type Network struct {
	Name string
	// Internal networks have no way out to other hosts or the internet, nor to the machine.
	Internal bool

	// Inbound networks let callers of published ports in, and nothing out.
	Inbound bool
}

// Volume is storage that outlives the containers, and the stack: destroying a stack keeps it.
type Volume struct {
	Name string

	// Size is the storage to ask for where the target reserves it; Docker's local driver does not.
	Size Bytes

	// Class is the storage class to take it from; empty is the cluster's default.
	Class string

	// PerReplica volumes hold what each replica can make again: every replica of the service that
	// mounts one has its own.
	PerReplica bool

	// SingleWriter volumes take one writer at a time: a container that mounts one is gone
	// before its successor starts, and whoever calls it bears the gap. A service that
	// mounts one has one replica.
	SingleWriter bool

	// Shared volumes are one copy that every replica reads and none writes: whoever applies the
	// model fills it. It takes storage that many machines can mount (ReadWriteMany).
	Shared bool
}

// Secret is a value that reaches containers as a file only. It is not in the Stack: the targets
// take it from the Pulumi config.
type Secret struct {
	// Name is the file's name under /run/secrets.
	Name string
	// ConfigKey is the key of the Pulumi config that holds the value, such as redisPassword or the
	// path services.backend.secrets.API_KEY, or that says where it is.
	ConfigKey string

	// Existing and External take the value from the cluster, so that it passes through neither the
	// config nor the state. At most one is set.
	Existing *ExistingSecret `json:",omitempty"`
	External *ExternalSecret `json:",omitempty"`
}

// ExistingSecret is one key of a Secret that somebody else keeps in the stack's namespace.
type ExistingSecret struct {
	Name, Key string
}

// ExternalSecret is a value that the External Secrets Operator fetches from a store.
type ExternalSecret struct {
	// Store is the name of a store of the Kind, SecretStore or ClusterSecretStore.
	Store, Kind string

	// Key is the secret's name in the store, Property one of its fields; empty is the whole.
	Key, Property string
}

// Service is one container image in one or more replicas.
type Service struct {
	Name  string
	Image Image

	// Entrypoint and Command replace the image's own when not empty.
	Entrypoint []string
	Command    []string

	// Contract is the environment of a service of this repository; nil for the others.
	Contract contract.Environment

	// Env holds variables beside the contract: those of upstream images. Never secrets.
	Env      map[string]string
	Ports    []Port
	Networks []string
	Mounts   []Mount
	Files    []File

	// DependsOn names services that must be healthy before this one is started.
	DependsOn []string

	// Calls names the services whose first port this one connects to. Where the target can,
	// nothing else is let through.
	Calls []string

	// Outside lists what the service connects to beyond the stack. Where the target can,
	// nothing else is let out.
	Outside []Outside
	Health  Health

	// SpeaksTLS reports whether a service without a contract has been told, by its Env or its Command,
	// to speak TLS with CertificateFile where the stack does so inside, and to let those in alone
	// whom AuthoritiesFile vouches for. Its Health and its callers' variables are written for that.
	SpeaksTLS bool `json:",omitempty"`

	// Replicas is the number of identical containers, 1 or more: with Autoscale, the
	// number to begin with.
	Replicas int

	// Autoscale lets the number of replicas follow the load; nil keeps it fixed.
	Autoscale *Autoscale
	Resources Resources
	GPU       *GPU
	Security  Security

	// StopGrace is how long a stopping container may take before it is killed: longer
	// than its longest stream.
	StopGrace time.Duration
	Log       Log

	// StartTimeout bounds the wait for the container to become healthy on `up`.
	StartTimeout time.Duration

	// DataFormat counts the changes of what the service keeps, in Redis or in a volume, that an
	// earlier image of it cannot read. It is raised with such a change, and begins with 1; 0 is that
	// of a service that keeps nothing. `codexctl rollback` refuses to go back over a change.
	DataFormat int `json:",omitempty"`
}

// Outside is a TCP destination beyond the stack.
type Outside struct {
	// Host is a DNS name or an IP address; empty is any.
	Host string
	Port int

	// Reason is what the connection is for.
	Reason string
}

// String returns the destination as errors name it.
func (o Outside) String() string {
	host := o.Host
	if host == "" {
		host = "any host,"
	}
	return fmt.Sprintf("%s port %d (%s)", host, o.Port, o.Reason)
}

// Autoscale bounds the number of replicas that follows the load.
type Autoscale struct {
	// Min and Max bound the number of replicas.
	Min, Max int
	// CPU is the mean use of processor time to keep, in percent of the limit.
	CPU int
}

// Image is where a service's container image comes from: a reference that is pulled
// when absent, or a build.
type Image struct {
	// Ref is an image reference with a pinned tag or digest; empty when Build is set.
	Ref   string
	Build *Build

	// ID is what an engine calls the image of Ref, which was loaded into it by hand and has no
	// digest; empty if that is not known, or Ref has a digest.
	ID string `json:",omitempty"`

	// Kept is the reference of what Build made of other sources. It is used as it is and neither
	// built nor pulled; empty has it built.
	Kept string `json:",omitempty"`
}

// Build makes an image from the repository.
type Build struct {
	// Repository is the image's name without tag; the tag is the digest of the build's inputs.
	Repository string

	// Context and Dockerfile are paths relative to the project's root.
	Context, Dockerfile string

	// Target is the stage of the Dockerfile: development or production.
	Target string

	// Args are the build's arguments. Those whose names end in _IMAGE name what it is built from.
	Args map[string]string

	// BaseIDs are the IDs of images that it is built from and that have no digest, by their
	// references; see Image.ID.
	BaseIDs map[string]string `json:",omitempty"`
}

// Port is a port that the container listens on.
type Port struct {
	// Name is what speaks there: http, redis, debugger, ...
	Name string

	// UDP reports whether it is a port of UDP; the others are of TCP.
	UDP bool

	// Container is the port number inside the container.
	Container int

	// Host is the port number published on the machine; 0 publishes nothing.
	Host int

	// Address is the address of the machine the port is published on; 127.0.0.1 unless the
	// stack says otherwise.
	Address string
}

// Protocol returns tcp or udp.
func (p Port) Protocol() string {
	if p.UDP {
		return "udp"
	}
	return "tcp"
}

// MountKind is what the source of a mount is.
type MountKind string

// The kinds of mounts.
const (
	MountVolume MountKind = "volume" // Source names a Volume
	MountBind   MountKind = "bind"   // Source is a path relative to the project's root
	MountTmpfs  MountKind = "tmpfs"  // Source is empty
	MountModel  MountKind = "model"  // the files of the stack's model; Source is empty

	// MountHost has a directory of the machine as its Source, which outlives the stack: that of the
	// backups alone.
	MountHost MountKind = "host"
)

// Mount is a directory of the container that is not its image's.
type Mount struct {
	Kind     MountKind
	Source   string
	Target   string
	ReadOnly bool

	// Size bounds a tmpfs; it counts against the container's memory.
	Size Bytes

	// Exec lets programs be run from a tmpfs.
	Exec bool
}

// File is a small read-only file put into the container, unless it is Live before that starts:
// configuration (Content) or a Secret.
type File struct {
	// Path is absolute; no other mount may lie at or below its directory.
	Path string

	// Content is the file's text. With a Secret it may hold tokens, which Text replaces.
	Content string

	// Secret names a Secret of the stack.
	Secret string

	// Live files are read by the service each time that it needs them: on an engine another text takes
	// the place of the former in containers that run. While it does, the file is not there for a
	// moment, or not whole.
	Live bool `json:",omitempty"`
}

// Tokens in the Content of a File with a Secret.
const (
	// SecretToken stands for the secret's value as it is. The format around it
	// has to take any value.
	SecretToken = "${secret}"
	// SecretHashToken stands for the SHA-256 of the value in hex, for programs that need no
	// more than that: it can be put into any format without quoting, and the value stays
	// out of the container.
	SecretHashToken = "${secret.sha256}"
)

// SecretFor returns the token that stands for a secret of its own for the purpose, derived from the
// value: a container that has one knows neither the value nor the secrets for other purposes.
func SecretFor(purpose string) string { return "${secret for " + purpose + "}" }

// SecretHashFor returns the token that stands for the SHA-256 of SecretFor's in hex.
func SecretHashFor(purpose string) string { return "${secret.sha256 for " + purpose + "}" }

// AuthoritiesToken stands for the certificates of the authorities that the value, a text of package
// authority, makes services trust.
const AuthoritiesToken = "${authorities}"

// CertificateFor returns the token that stands for a service's certificate, and its key, of the
// authority that the value is.
func CertificateFor(service string) string { return "${certificate for " + service + "}" }

// secretToken matches the tokens but those of an authority, which authorityToken does.
var (
	secretToken    = regexp.MustCompile(`\$\{secret(\.sha256)?(?: for ([a-z0-9 -]+))?\}`)
	authorityToken = regexp.MustCompile(`\$\{(?:authorities|certificate for ([a-z0-9-]+))\}`)
)

// HasSecret reports whether a token stands in the text.
func HasSecret(text string) bool {
	return secretToken.MatchString(text) || authorityToken.MatchString(text)
}

// ReplaceSecrets returns the text with its tokens replaced. The purpose is empty for the secret's
// own value.
func ReplaceSecrets(text string, with func(purpose string, hash bool) string) string {
	return secretToken.ReplaceAllStringFunc(text, func(token string) string {
		m := secretToken.FindStringSubmatch(token)
		return with(m[2], m[1] != "")
	})
}

// Text returns what the file holds, given the value of its Secret: Content with the tokens
// replaced, or the value itself if Content is empty. Line breaks at the value's end are not part of
// it: pipes and editors add them.
func (f File) Text(value string) string {
	if f.Secret == "" {
		return f.Content
	}

	value = strings.TrimRight(value, "\r\n")
	if f.Content == "" {
		return value
	}

	content := authorityToken.ReplaceAllStringFunc(f.Content, func(token string) string {
		a, err := authority.Parse(value)
		service := authorityToken.FindStringSubmatch(token)[1]
		switch {
		case err != nil:
			// As in a plan, where the value is another text. CheckSecret keeps it from being more.
			return "The value " + err.Error() + ": " + derive(value, token) + "\n"
		case service == "":
			return a.Trusted()
		}
		return a.Issue(service)
	})

	return ReplaceSecrets(content, func(purpose string, hash bool) string {
		text := value
		if purpose != "" {
			text = derive(value, purpose)
		}
		if !hash {
			return text
		}

		sum := sha256.Sum256([]byte(text))
		return hex.EncodeToString(sum[:])
	})
}

// derive returns the secret for the purpose in hex, by HKDF with SHA-256.
func derive(value, purpose string) string {
	key, err := hkdf.Key(sha256.New, []byte(value), nil, purpose, sha256.Size)
	if err != nil {
		panic(err) // only where GODEBUG=fips140=only finds the value too short
	}
	return hex.EncodeToString(key)
}

// Health is how a container is asked whether it works: Docker's health check and, on Kubernetes,
// the probes.
type Health struct {
	// Command is run inside the container; exit code 0 is healthy.
	Command []string

	// LivePath is the HTTP path (on the first port) that answers 200 as long as the process works,
	// whatever it depends on; empty when Command is all there is.
	LivePath string

	// ReadyPath is the HTTP path (on the first port) that answers 200 when the service may get
	// traffic; empty when health is all there is.
	ReadyPath string
	Interval  time.Duration
	Timeout   time.Duration

	// StartPeriod is how long failures do not count after the start.
	StartPeriod time.Duration

	// Retries is how many failures in a row make the container unhealthy.
	Retries int
}

// Resources are limits; each is required.
type Resources struct {
	CPU    MilliCPU
	Memory Bytes

	// PIDs is the greatest number of processes and threads.
	PIDs int
}

// GPU asks for accelerators of the machine.
type GPU struct {
	// Count is the number of GPUs; AllGPUs asks for every one.
	Count int

	// Devices names GPUs by index or UUID instead of a count.
	Devices []string

	// Resource is the name under which a cluster's device plugin offers the devices, such as
	// nvidia.com/mig-1g.10gb for a slice (MIG); empty is nvidia.com/gpu.
	Resource string

	// RuntimeClass is the cluster's runtime class that gives containers the devices; empty
	// is the node's default.
	RuntimeClass string

	// NodeSelector are labels of the nodes that have the devices.
	NodeSelector map[string]string

	// Tolerations are the taints such nodes keep others away with.
	Tolerations []Toleration
}

// Toleration lets a container onto nodes with a taint.
type Toleration struct {
	// Key is the taint's; an empty Value tolerates every value, an empty Effect every effect.
	Key, Value, Effect string
}

// AllGPUs as GPU.Count asks for every GPU of the machine.
const AllGPUs = -1

// Security is what a container may do. The zero value is not valid: a service says who it runs as.
// Capabilities are always dropped and no-new-privileges is always set.
type Security struct {
	// UID and GID the container runs as; 0 is refused.
	UID, GID int

	// WritableRoot makes the root file system writable; only for images that cannot do
	// without, with the reason.
	WritableRoot string

	// KeepCapabilities lists the few capabilities not dropped, each with its reason.
	KeepCapabilities map[string]string
}

// Log bounds the container's log on the machine.
type Log struct {
	// MaxSize is the size of one log file, MaxFiles their number.
	MaxSize  Bytes
	MaxFiles int
}

// Model is the custom model that the stack serves.
type Model struct {
	// Name is the model's name in Ollama, without tag.
	Name string

	// Modelfile is the Modelfile's path relative to the project's root.
	Modelfile string

	// Base replaces the Modelfile's FROM; empty keeps it.
	Base string

	// Digest is the sha256 (hex) of the model's inputs: Modelfile, base and the files they name.
	Digest string

	// Weights are the sha256 (hex) of the files that the Modelfile names, by their paths relative to
	// its folder.
	Weights map[string]string `json:"-"`

	// Evals is the sha256 (hex) of the evals beside the Modelfile, which a version has to pass
	// before it serves; empty asks none.
	Evals string
}
