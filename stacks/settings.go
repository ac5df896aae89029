package stacks

import (
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
)

// Target is where a stack is provisioned.
type Target string

// The targets.
const (
	Docker     Target = "docker"
	Kubernetes Target = "kubernetes"
)

// Settings are the values of a stack's Pulumi config (Pulumi.<stack>.yaml) under the
// project's namespace. They hold values, never structure. A zero field keeps what the
// base and the overlay say.
type Settings struct {
	// Overlay names the overlay to use; empty means the one of the stack's own name. It lets a
	// stack of any name (a colleague's, a throwaway of CI) be a dev or a prod stack.
	Overlay string
	Target  Target

	// Debug turns on debug logs and profiling in every service.
	Debug *bool

	// LogLevel is one of debug, info, warn, error.
	LogLevel string

	// Domain is the folder of modelfiles whose texts people see; DomainTitle replaces
	// the title among them.
	Domain, DomainTitle string
	Model               ModelSettings
	Edge                EdgeSettings

	// PortOffset is added to every port published on the machine, so that
	// several stacks fit on one.
	PortOffset int

	// ConversationTTL is how long an untouched conversation is kept; 0 keeps it for ever.
	ConversationTTL *time.Duration

	// GPU asks for accelerators for Ollama.
	GPU *GPU

	// Registry is where built images are pushed to.
	Registry string

	// Platforms are what images are built for; none keeps the stack's.
	Platforms []string

	// Volumes holds values of single volumes by name.
	Volumes map[string]VolumeSettings

	// Redis is how the stack's own Redis keeps its data, or another in its place; nil is neither.
	Redis *RedisSettings

	// SignIn is how people sign in; nil keeps what the stack says, which is not at all.
	SignIn *SignInSettings

	// Session is when people are signed out.
	Session SessionSettings

	// InternalTLS has the services speak TLS with each other; nil keeps what the stack says.
	InternalTLS *bool

	// Egress is what a private stack may reach beside what its other settings name.
	Egress *EgressSettings

	// Knowledge are the documents that answers are taken from; nil keeps what the stack says, which
	// is none at all.
	Knowledge *KnowledgeSettings

	// Limits are how much one person may use.
	Limits LimitSettings

	// Audit is how it is recorded who did what; nil is as by default.
	Audit *AuditSettings

	// Learning is what is learned from people.
	Learning LearningSettings

	// Backup are the backups; nil makes none.
	Backup *BackupSettings

	// Kubernetes is the place in a cluster; other targets ignore it.
	Kubernetes KubernetesSettings

	// Rollback says which earlier release's images and model the stack has; nil is none.
	Rollback *RollbackSettings

	// Services holds values of single services by name.
	Services map[string]ServiceSettings

	// Secrets holds the names of the secret settings that are set. Their values are not known here.
	Secrets map[string]bool

	// AssumeSecrets makes the secrets that the stack needs count as set: a plan that provisions
	// nothing needs no values. No key of the config sets it.
	AssumeSecrets bool
}

// ModelSettings choose the custom model and how it is served.
type ModelSettings struct {
	// Name is the model's name in Ollama; Modelfile its path in the repository;
	// Base replaces its FROM.
	Name, Modelfile, Base string
	// Parallel is how many answers each replica of Ollama writes at once; 0 keeps the stack's.
	Parallel int
	// Evals reports whether a version has to pass the evals beside the Modelfile; nil is yes, but
	// for development.
	Evals *bool
}

// EdgeSettings are where the stack is reached.
type EdgeSettings struct {
	// Address of the machine; 0.0.0.0 opens the stack to the network: on a cluster,
	// through a load balancer.
	Address string
	Port    int

	// Host is the DNS name of the edge, with Gateway or Ingress and TLS as in Route.
	Host    string
	Gateway *Gateway
	Ingress *Ingress
	TLS     *TLS

	// OwnTLS makes the edge end TLS itself, as the Host above.
	OwnTLS *EdgeTLS

	// TrustedProxies are the networks of the gateways before the edge; see Stack.
	TrustedProxies []string
}

// VolumeSettings are values of one volume; see Volume.
type VolumeSettings struct {
	Size   Bytes
	Class  string
	Shared *bool
}

// RedisSettings are the address of an external Redis, whose password is the secret redisPassword,
// or how the stack's own keeps what it acknowledged.
type RedisSettings struct {
	// Fsync is when the stack's own Redis writes to the disk: everysec, of which a power loss
	// takes the last second, or always, before it acknowledges. Empty is everysec; it is not
	// for an external Redis.
	Fsync string

	// URL is redis://[user@]host:port/db, or rediss:// for TLS.
	URL string

	// Sentinels (host:port) and the name of their Master, or nodes of a Cluster (host:port), take
	// the place of the URL's host.
	Sentinels []string
	Master    string
	Cluster   []string

	// CA is the PEM of the certificate authority that signed what Redis shows; empty
	// trusts the usual ones.
	CA string
}

// SignInSettings are how people sign in: with accounts of the stack's own, at an OpenID provider, or
// not at all if neither is set.
type SignInSettings struct {
	Accounts bool
	OIDC     *OIDCSettings
}

// OIDCSettings are an OpenID provider, and whom of its people to let in. The client's secret, if it
// has one, is the secret oidcClientSecret.
type OIDCSettings struct {
	Issuer, ClientID string

	// URL is the address that people type. It is empty if the settings of the edge tell it.
	URL string

	// Scopes are asked for beside openid and profile.
	Scopes []string

	// GroupsClaim is the claim with a person's groups.
	GroupsClaim string

	// AllowedGroups and AdminGroups are let in; Everybody lets in whoever the provider signs in.
	AllowedGroups, AdminGroups []string
	Everybody                  bool

	// CA is the PEM of the certificate authority that signed the provider's certificate; empty
	// trusts the usual ones.
	CA string
}

// LimitSettings are how much one person may use; 0 is no limit.
type LimitSettings struct {
	// RequestsPerDay and TokensPerDay bound a day (UTC): its questions, and the tokens of their
	// prompts and answers. AtOnce bounds the questions that wait for their answers or get them.
	RequestsPerDay, TokensPerDay, AtOnce int

	// Storage bounds the messages of the person's conversations. 0 keeps the backend's own bound.
	Storage Bytes

	// Models say which groups may ask which model.
	Models contract.Models
}

// KubernetesSettings choose the cluster and the place in it.
type KubernetesSettings struct {
	// Context is the kubeconfig's context; empty is its current one.
	Context string
	// Namespace is made by the stack; empty is codexcontinue-<stack>.
	Namespace string
	// Domain is what the names of the cluster's Services end in; empty is cluster.local.
	Domain string

	// PullSecrets are Secrets of the stack's namespace by which the nodes pull images.
	PullSecrets []string

	// Pods are of all pods of the stack.
	Pods PodSettings
}

// ServiceSettings are values of one service.
type ServiceSettings struct {
	Replicas *int
	CPU      MilliCPU
	Memory   Bytes
	PIDs     int

	// Autoscale lets the number of replicas follow the load. Its Min is 0 where the settings name
	// none: the replicas that the stack has without it.
	Autoscale *Autoscale

	// Secrets are files of the service by the names of their variables, without _FILE.
	Secrets map[string]SecretSource

	// Pods are of the service's pods on a cluster.
	Pods PodSettings
}
