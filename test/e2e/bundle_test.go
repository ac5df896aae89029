package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// newHome is an empty folder of somebody who has nothing else: an empty home, and the programs of the
// operating system.
func newHome(t *testing.T, environ ...string) *checkout {
	t.Helper()
	c := &checkout{dir: t.TempDir()}
	for d := c.dir; d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil { // services read mounted files as another user
			t.Fatal(err)
		}
	}

	home := t.TempDir()
	c.env = append([]string{
		"HOME=" + home, "PULUMI_HOME=" + filepath.Join(home, ".pulumi"),
		"PATH=/usr/bin:/bin", "NO_COLOR=1",
		"PULUMI_CONFIG_PASSPHRASE=end-to-end", "PULUMI_SKIP_UPDATE_CHECK=true",
	}, environ...)
	return c
}

// hasNot fails the test if one of the programs is there.
func (c *checkout) hasNot(t *testing.T, programs ...string) {
	t.Helper()
	for _, name := range programs {
		if out, _, err := c.run(t, time.Minute, "sh", "-c", "command -v "+name); err == nil {
			t.Errorf("there is %s", out)
		}
	}
}

// carry makes a bundle of the stack with the tiny model, and puts the codexctl of it into the other
// checkout. It returns the arguments by which that loads the bundle.
func (c *checkout) carry(t *testing.T, stack string, to *checkout) (load []string) {
	t.Helper()
	c.must(t, time.Minute, "git", "init", "--quiet")
	c.must(t, time.Minute, "git", "add", "--all")
	c.must(t, time.Minute, "git", "-c", "user.name=e2e", "-c", "user.email=e2e@example.org",
		"commit", "--quiet", "--message", "all")

	carried := t.TempDir()
	key, file := filepath.Join(carried, "key"), filepath.Join(carried, stack+".bundle")
	public := strings.TrimSpace(c.must(t, time.Minute, "bin/codexctl", "bundle", "key", key))
	c.must(t, 10*time.Minute, "bin/codexctl", "bundle", "create", stack, "--key", key,
		"--model", tinyWeights(t), "-o", file)
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}

	t.Logf("the bundle has %d MB", info.Size()>>20)
	c.must(t, time.Minute, "tar", "-C", to.dir, "-xf", file, "bin/codexctl")
	return []string{"bundle", "load", file, "--verify-key", public, "--to", to.dir}
}
