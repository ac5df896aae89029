package stacks

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// RollbackKey is the key of the Pulumi config that holds RollbackSettings.
const RollbackKey = "rollback"

// RollbackSettings say which earlier release of the stack its images and its model are of, in the
// place of what the sources make. `codexctl rollback` writes them; without them the stack is what
// its sources say.
type RollbackSettings struct {
	// To is the release's number in the history of the stack, Revision the commit of its sources.
	To       int
	Revision string

	// Images are the references of its images by service. Those that are built have no registry in
	// them.
	Images map[string]string

	// Model is the version of the model that is to serve; empty leaves it to the Modelfile.
	Model string
}

// versionRule is how a version of the model is called.
var versionRule = regexp.MustCompile(`^[0-9a-f]{12}$`)

func (s *Settings) decodeRollback(v string) error {
	var r RollbackSettings
	version := func(v string) error {
		if !versionRule.MatchString(v) {
			return fmt.Errorf("must be a version of the model, twelve digits of its digest, got %q", v)
		}
		r.Model = v
		return nil
	}
	err := object(fields{
		"to":       integer(&r.To, 1, 1<<31-1),
		"revision": text(&r.Revision),
		"images":   labels(&r.Images),
		"model":    version,
	})(v)
	if err != nil {
		return err
	}

	if v == "{}" { // what Pulumi.yaml says for every stack
		return nil
	}
	if r.To == 0 || r.Images == nil {
		return errors.New("needs to and images: `codexctl rollback` writes them, and without the key " +
			"the stack is what its sources say")
	}

	s.Rollback = &r
	return nil
}

// applyRollback gives the services the images of an earlier release.
func (s *Stack) applyRollback(r *RollbackSettings) error {
	if r == nil {
		return nil
	}

	var errs []error
	for _, name := range slices.Sorted(maps.Keys(r.Images)) {
		at, ref := Project+":"+RollbackKey+".images."+name, r.Images[name]
		svc := s.Service(name)
		switch {
		case svc == nil:
			errs = append(errs, fmt.Errorf("%s: this stack has no such service (it has %s)", at,
				strings.Join(s.serviceNames(), ", ")))
		case !referenceRule.MatchString(ref):
			errs = append(errs, fmt.Errorf("%s: %q is no reference with a tag or a digest", at, ref))
		case svc.Image.Build == nil:
			svc.Image.Ref = ref
		case svc.Image.Build.Target == DevelopmentStage:
			errs = append(errs, fmt.Errorf("%s: the service is compiled of the checkout where it runs, "+
				"so there is no earlier image: remove %s:%s and check out another commit", at, Project,
				RollbackKey))
		case !svc.Image.Build.made(ref):
			errs = append(errs, fmt.Errorf("%s: %q is no image of %s", at, ref,
				svc.Image.Build.Repository))
		default:
			svc.Image.Kept = ref
		}
	}

	return errors.Join(errs...)
}

// made reports whether the reference is in the build's repository.
func (b *Build) made(ref string) bool {
	rest, ok := strings.CutPrefix(ref, b.Repository)
	return ok && (strings.HasPrefix(rest, ":") || strings.HasPrefix(rest, "@"))
}

func (s *Stack) serviceNames() []string {
	var names []string
	for _, x := range s.Services {
		names = append(names, x.Name)
	}
	return names
}

// DataFormats returns the formats of what the services keep, by service. Those that keep nothing
// have none.
func (s *Stack) DataFormats() map[string]int {
	out := map[string]int{}
	for _, svc := range s.Services {
		if svc.DataFormat > 0 {
			out[svc.Name] = svc.DataFormat
		}
	}
	return out
}
