package server

import "runtime/debug"

// Version returns the version control revision that the binary was built from, if Go recorded one,
// else the module's version.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}

	rev, modified := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			rev = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = "+modified"
		}
	}

	if rev == "" {
		return info.Main.Version
	}

	return rev + modified
}
