package stacks

import (
	"fmt"
	"slices"
	"strings"
)

// DefaultPlatform is the platform of a stack whose settings name none. It does not depend on the
// machine of whoever plans, so that a plan is the same wherever it is made.
const DefaultPlatform = "linux/amd64"

// platforms are those that the stack's images can be built for.
var platforms = []string{"linux/amd64", "linux/arm64"}

// Platform returns the stack's platforms, separated by commas, as an image is built for them.
func (s Stack) Platform() string {
	if len(s.Platforms) == 0 {
		return DefaultPlatform
	}
	return strings.Join(s.Platforms, ",")
}

// decodePlatforms reads one platform, or several separated by commas.
func (s *Settings) decodePlatforms(v string) error {
	list := strings.Split(v, ",")
	for i, p := range list {
		if !slices.Contains(platforms, p) {
			return fmt.Errorf("%q is none of %s", p, strings.Join(platforms, ", "))
		}
		if slices.Contains(list[:i], p) {
			return fmt.Errorf("%s is there twice", p)
		}
	}

	s.Platforms = list
	return nil
}

// applyPlatforms sets what the images are built for. An image for several platforms is an index,
// which only a registry holds.
func (s *Stack) applyPlatforms(v Settings) error {
	if len(v.Platforms) == 0 {
		return nil
	}

	s.Platforms = v.Platforms
	switch {
	case len(v.Platforms) == 1:
		return nil
	case v.Target == Docker:
		return fmt.Errorf("%s:platform: an engine has one platform: name that of the machine that "+
			"it runs on", Project)
	case v.Registry == "":
		return fmt.Errorf("%s:platform: images for several platforms are pushed to a registry: "+
			"set %s:registry, or name one platform", Project, Project)
	}
	return nil
}
