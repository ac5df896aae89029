package parse

import landlock "github.com/landlock-lsm/go-landlock/landlock/syscall"

// Confinement is what the machine takes from the child that reads a document, beside time and memory.
type Confinement struct {
	// Files are all but the cache. Network is what TCP reaches.
	Files, Network bool
}

// Confined returns what this machine takes from a child. Without Landlock in the kernel, or with a
// container's seccomp profile that does not let it be used, that is nothing.
func Confined() Confinement {
	version, err := landlock.LandlockGetABIVersion()
	if err != nil {
		version = 0
	}
	return confinedBy(version)
}

// confinedBy returns what a version of Landlock's ABI takes; 0 is none.
func confinedBy(version int) Confinement {
	return Confinement{Files: version >= 1, Network: version >= 4}
}

// Whole reports whether nothing is left.
func (c Confinement) Whole() bool { return c.Files && c.Network }
