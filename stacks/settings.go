package stacks

import "io/fs"

// Target is where a stack is provisioned.
type Target string

// The targets.
const (
	Docker     Target = "docker"
	Kubernetes Target = "kubernetes"
)

// Settings are the values of a stack's Pulumi config (Pulumi.<stack>.yaml) under the project's namespace. They hold
// values, never structure; DecodeSettings reads them strictly.
type Settings struct {
	Target Target
}

// Load makes the stack of that name: the base, its overlay, then the settings. root is the project's root directory,
// in which the Modelfile must exist.
func Load(name string, s Settings, root fs.FS) (Stack, error) { panic("to be written") }
