package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// imagesStack is a throwaway stack of production images; nothing of it ever runs.
const imagesStack = "e2e-images"

// buildImage builds an image of the production stacks as `codexctl images build` does, with the engine's BuildKit, and tags
// it with ref. What the engine has already is not built again.
func (c *checkout) buildImage(t *testing.T, b stacks.Build, ref string) {
	t.Helper()
	c.settings(t, imagesStack, `
		overlay: prod
		redisPassword: {secure: none}`)
	c.must(t, 5*time.Minute, "go", "build", "-o", "bin/codexctl", "./cmd/codexctl")
	c.must(t, 15*time.Minute, "bin/codexctl", "images", "build", imagesStack)
	for built := range strings.FieldsSeq(c.must(t, time.Minute, "bin/codexctl", "images", "list", imagesStack)) {
		if strings.HasPrefix(built, b.Repository+":") {
			c.must(t, time.Minute, "docker", "tag", built, ref)
			return
		}
	}
	t.Fatalf("codexctl images list does not name an image of %s", b.Repository)
}
