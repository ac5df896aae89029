package stacks

import "time"

// Target is where a stack is provisioned.
type Target string

// The targets.
const (
	Docker     Target = "docker"
	Kubernetes Target = "kubernetes"
)

// Settings are the values of a stack's Pulumi config (Pulumi.<stack>.yaml) under the project's namespace. They hold
// values, never structure. A zero field keeps what the base and the overlay say.
type Settings struct {
	// Overlay names the overlay to use; empty means the one of the stack's own name. It lets a stack of any name (a
	// colleague's, a throwaway of CI) be a dev or a prod stack.
	Overlay string
	Target  Target
	// Debug turns on debug logs and profiling in every service.
	Debug *bool
	// LogLevel is one of debug, info, warn, error.
	LogLevel string
	// Domain and DomainTitle are what the web UI calls itself.
	Domain, DomainTitle string
	Model               ModelSettings
	Edge                EdgeSettings
	// PortOffset is added to every port published on the machine, so that several stacks fit on one.
	PortOffset int
	// ConversationTTL is how long an untouched conversation is kept; 0 keeps it for ever.
	ConversationTTL *time.Duration
	// GPU asks for accelerators for Ollama.
	GPU *GPU
	// Services holds values of single services by name.
	Services map[string]ServiceSettings
	// Secrets holds the names of the secret settings that are set. Their values are not known here.
	Secrets map[string]bool
}

// ModelSettings choose the custom model.
type ModelSettings struct {
	// Name is the model's name in Ollama; Modelfile its path in the repository; Base replaces its FROM.
	Name, Modelfile, Base string
}

// EdgeSettings say where the stack is reached.
type EdgeSettings struct {
	// Address of the machine; 0.0.0.0 opens the stack to the network.
	Address string
	Port    int
}

// ServiceSettings are values of one service.
type ServiceSettings struct {
	Replicas *int
	CPU      MilliCPU
	Memory   Bytes
	PIDs     int
}
