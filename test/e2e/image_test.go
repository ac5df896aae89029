package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// imagesStack is a throwaway stack of production images; nothing of it ever runs.
const imagesStack = "e2e-images"

// builtImages builds the images of the production stacks as `codexctl images build` does, with the
// engine's BuildKit, and returns their references by repository. What the engine has already is not
// built again.
func (c *checkout) builtImages(t *testing.T) map[string]string {
	t.Helper()
	c.settings(t, imagesStack, `
		overlay: prod
		redisPassword: {secure: none}`)
	c.must(t, 5*time.Minute, "go", "build", "-o", "bin/codexctl", "./cmd/codexctl")
	c.must(t, 15*time.Minute, "bin/codexctl", "images", "build", imagesStack)
	out := map[string]string{}
	list := c.must(t, time.Minute, "bin/codexctl", "images", "list", imagesStack)
	for ref := range strings.FieldsSeq(list) {
		if i := strings.LastIndex(ref, ":"); i > 0 {
			out[ref[:i]] = ref
		}
	}

	return out
}

// tag gives one of the built images another reference.
func (c *checkout) tag(t *testing.T, built map[string]string, b stacks.Build, ref string) {
	t.Helper()
	if built[b.Repository] == "" {
		t.Fatalf("codexctl images list does not name an image of %s", b.Repository)
	}
	c.must(t, time.Minute, "docker", "tag", built[b.Repository], ref)
}
