package scaffold

import "fmt"

// registry is the file that lists the overlays, in the variable overlays.
const registry = "stacks/overlay.go"

// Domain returns what a new domain adds to the checkout: its overlay, its folder of modelfiles and
// the settings of its stack.
func Domain(_ string, name Name) (Change, error) {
	files, err := expand("domain", name, name)
	if err != nil {
		return Change{}, err
	}

	// The suffix keeps the function apart from what else the package declares.
	entry := fmt.Sprintf("%q: %sDomain", string(name), name.Identifier())
	return Change{
		Files: files,
		Edits: []Edit{addEntry(registry, "overlays", entry)},
		Next: []string{
			fmt.Sprintf("write the prompt, the evals and the texts in modelfiles/%s", name),
			fmt.Sprintf("say in stacks/%s.go what else the stack has of its own", name),
			fmt.Sprintf("make build && bin/codexctl plan %s", name),
			"make update-goldens test",
			"give it its secret and bring it up, as docs/domains.md shows",
		},
	}, nil
}
