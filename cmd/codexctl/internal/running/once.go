package running

import "time"

// Labels of what runs a command once. It has them in the place of stacks.LabelService, so that
// nothing takes it for a replica of the service.
const (
	// LabelOnce has the name of the service that it is like.
	LabelOnce = "dev.codexcontinue.run"

	// LabelUntil has the time at which it may be removed, in seconds since 1970.
	LabelUntil = "dev.codexcontinue.run-until"

	// LabelLocked is on what is needed only while its codexctl holds the lock of the stack. Who has
	// the lock may remove it before its time.
	LabelLocked = "dev.codexcontinue.run-locked"
)

// Once is a command that runs once, in a container or pod of its own that is like a replica: its
// image, variables, user, networks, mounts, limits and what keeps it in bounds. It has no port, no
// name that others know, and no health check.
type Once struct {
	// Args are the program and its arguments.
	Args []string

	// Secrets gives it the files with secrets, too. SecretDirs are the folders that hold some.
	Secrets    bool
	SecretDirs []string

	// Writable are the paths of the volumes that it may write to, as the replica does. It reads the
	// others.
	Writable []string

	// Limit bounds how long it may take.
	Limit time.Duration
}

// OneOff is a container or pod that runs a command once.
type OneOff struct {
	Name string `json:"name"`
	ID   string `json:"-"`

	// Service is the one that it is like.
	Service   string    `json:"service"`
	StartedAt time.Time `json:"startedAt"`

	// Until is when it may be removed.
	Until time.Time `json:"until"`

	// Locked reports whether it may be removed earlier by who holds the lock of the stack.
	Locked bool `json:"-"`
}
