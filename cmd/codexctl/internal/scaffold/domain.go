package scaffold

import "fmt"

// registry is the file that lists the overlays, in the variable overlays.
const registry = "stacks/overlay.go"

// Domain returns what a new domain adds to the checkout: its overlay, its folder of modelfiles and
// the settings of its stack.
func Domain(name Name) (Change, error) {
	files, err := expand("domain", name)
	if err != nil {
		return Change{}, err
	}

	// The suffix keeps the function apart from what else the package declares.
	entry := fmt.Sprintf("%q: %sDomain", string(name), name.Identifier())
	return Change{
		Files: files,
		Edits: []Edit{addEntry(registry, "overlays", entry)},
		Next: []string{
			fmt.Sprintf("edit the model in modelfiles/%s, and the structure in stacks/%[1]s.go", name),
			"make update-goldens test",
			"make build",
			fmt.Sprintf("bin/codexctl plan %s", name),
			fmt.Sprintf("pulumi config set --secret -s %s codexcontinue:redisPassword", name),
			fmt.Sprintf("bin/codexctl up %s", name),
		},
	}, nil
}
