package main

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/cli"
)

// edit is a change of the sources, as a pull request makes it: it replaces a text in a file.
type edit struct {
	name            string
	file, old, text string

	// says are texts that the report has to contain.
	says []string
}

// edits are one of a setting, one of a file and one of the code. TestGolden in infra/diff has more
// of the last kind, which are slow here because they need a compiler.
var edits = []edit{
	{"limit", "Pulumi.prod.yaml", "    backend:\n      replicas: 2\n",
		"    backend:\n      replicas: 2\n      memory: 2Gi\n",
		[]string{"backend memory: 1Gi → 2Gi", "memory: 1024 → 2048"}},
	{"prompt", "modelfiles/codexcontinue/Modelfile", "You are CodexContinue,",
		"You are a pirate and CodexContinue,",
		[]string{"+ SYSTEM \"\"\"You are a pirate", "envs[MODELFILE_DIGEST]"}},
	{"greeting", "modelfiles/codexcontinue/domain.yaml", "What are you working on?",
		"What is on your mind?",
		[]string{`"greeting": "What is on your mind?"`}},
	{"image", "stacks/base.go", `RedisImage   = "redis:8.2.1-bookworm"`,
		`RedisImage   = "redis:8.4.0-bookworm"`,
		[]string{
			"redis image: redis:8.2.1-bookworm → redis:8.4.0-bookworm",
			"RemoteImage redis: replaced: name",
		}},
}

// What differs between runs, or with each edit of a service's sources: the hash of a commit after
// its name, and the hash in the name of a model's Job, which depends on the image that runs it. The
// replacement is as long.
var (
	commits = regexp.MustCompile(`\([0-9a-f]{12}\)`)
	jobs    = regexp.MustCompile(`\bmodel-[0-9a-f]{12}\b`)
)

// sources returns a git repository, with one commit, of the files that the plans are made from.
func sources(t *testing.T) (root string, environ []string) {
	t.Helper()
	if testing.Short() {
		t.Skip("compiles the plans")
	}

	for _, program := range []string{"git", "go"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not on PATH", program)
		}
	}

	root = filepath.Join(t.TempDir(), "checkout")
	for _, name := range []string{
		"go.mod", "go.sum", "Pulumi.yaml", "Pulumi.dev.yaml", "Pulumi.prod.yaml",
		"Pulumi.healthcare.yaml", "infra", "stacks", "services", "modelfiles", "tools/lint",
	} {
		copyTree(t, filepath.Join("../..", name), filepath.Join(root, name))
	}

	environ = slices.DeleteFunc(os.Environ(), func(e string) bool {
		return strings.HasPrefix(e, "GIT_") || strings.HasPrefix(e, "PULUMI_") ||
			strings.HasPrefix(e, "XDG_CACHE_HOME=") || strings.HasPrefix(e, "GOCACHE=")
	})

	// Go's cache is the developer's; that of diff belongs to the test.
	environ = append(environ, "GOCACHE="+goEnv(t, "GOCACHE"), "XDG_CACHE_HOME="+t.TempDir())
	gitIn(t, root, "init", "--quiet", "--initial-branch=main")
	commitAll(t, root)
	return root, environ
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}

		if d.IsDir() {
			if d.Name() == "testdata" { // it is read by tests only
				return fs.SkipDir
			}
			return nil
		}

		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}

		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}

		target := filepath.Join(to, rel)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}

		return os.WriteFile(target, text, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// onlyGitAndGo returns a PATH that has only these two, and the compiler whose version Go asks for.
func onlyGitAndGo(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	programs := []string{"git", "go"}
	if goEnv(t, "CGO_ENABLED") == "1" {
		programs = append(programs, strings.Fields(goEnv(t, "CC"))[0])
	}

	for _, program := range programs {
		path, err := exec.LookPath(program)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(dir, filepath.Base(program))); err != nil {
			t.Fatal(err)
		}
	}

	return dir
}

func gitIn(t *testing.T, root string, args ...string) {
	t.Helper()
	config := []string{
		"-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false",
	}
	cmd := exec.Command("git", append(config, args...)...)

	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %s: %v\n%s", args[0], err, out)
	}
}

func commitAll(t *testing.T, root string) {
	t.Helper()
	gitIn(t, root, "add", "--all")
	gitIn(t, root, "commit", "--quiet", "--message", "all")
}

// apply makes the edit and returns a function that undoes it.
func (e edit) apply(t *testing.T, root string) (undo func()) {
	t.Helper()
	path := filepath.Join(root, e.file)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(before, []byte(e.old)) {
		t.Fatalf("%s has no longer %q", e.file, e.old)
	}

	write := func(text []byte) {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}

	write(bytes.Replace(before, []byte(e.old), []byte(e.text), 1))
	return func() { write(before) }
}

// codexctl runs the command and returns its exit code and output.
func codexctl(environ []string, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = cli.Run(context.Background(), args, environ, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

// TestDiff edits the sources of a real checkout and compares the output of `codexctl diff` with
// testdata/diff; -update rewrites it.
func TestDiff(t *testing.T) {
	root, environ := sources(t)
	diff := func(t *testing.T, want int, environ []string, args ...string) string {
		t.Helper()
		code, stdout, stderr := codexctl(environ,
			append([]string{"diff", "-C", root, "--base", "main"}, args...)...)
		if code != want {
			t.Fatalf("exit code %d, want %d\n%s%s", code, want, stdout, stderr)
		}

		return jobs.ReplaceAllString(commits.ReplaceAllString(stdout, "(commit)"),
			"model-............")
	}

	t.Run("none", func(t *testing.T) {
		if out := diff(t, 0, environ); !strings.HasPrefix(out,
			"No plan changes from main (commit) to the working tree (6 plans).\n") {
			t.Errorf("got %s", out)
		}
	})

	for _, e := range edits {
		t.Run(e.name, func(t *testing.T) {
			defer e.apply(t, root)()
			out := diff(t, 2, environ)
			for _, want := range e.says {
				if !strings.Contains(out, want) {
					t.Errorf("the report does not say %q", want)
				}
			}

			golden(t, filepath.Join("testdata/diff", e.name+".txt"), out)
			if e.name != "limit" { // limit needs no compiler
				return
			}

			golden(t, "testdata/diff/limit.md", diff(t, 2, environ, "--format", "markdown"))
			for _, format := range []string{"text", "markdown", "json"} {
				first := diff(t, 2, environ, "--format", format)
				if again := diff(t, 2, environ, "--format", format); again != first {
					t.Errorf("a second report as %s differs", format)
				}
			}
		})
	}

	t.Run("domain", func(t *testing.T) {
		code, _, stderr := codexctl(environ, "new", "-C", root, "domain", "a-test-only")
		if code != 0 {
			t.Fatalf("exit code %d: %s", code, stderr)
		}

		out := diff(t, 2, environ)
		for _, want := range []string{
			"2 of 8 plans change", " 0 to replace, 0 to delete.",
			"+ stack a-test-only\n      a-test-only on docker and kubernetes\n",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("the report does not say %q:\n%s", want, out)
			}
		}

		gitIn(t, root, "checkout", "--quiet", ".")
		gitIn(t, root, "clean", "--quiet", "--force", "-d")
	})

	t.Run("fork", func(t *testing.T) {
		defer edits[0].apply(t, root)()
		// Nothing is a developer's but git, go and Go's caches.
		fork := []string{"PATH=" + onlyGitAndGo(t), "GOCACHE=" + goEnv(t, "GOCACHE"),
			"GOMODCACHE=" + goEnv(t, "GOMODCACHE"), "GOPROXY=off",
			"CGO_ENABLED=" + goEnv(t, "CGO_ENABLED"), "DOCKER_HOST=unix:///nonexistent.sock",
			"KUBECONFIG=/nonexistent"}
		// JSON has all that the other formats say.
		if diff(t, 2, fork, "--format", "json") != diff(t, 2, environ, "--format", "json") {
			t.Error("the report differs from a developer's")
		}
	})

	t.Run("secrets", func(t *testing.T) {
		set := func(value string) edit {
			return edit{
				file: "Pulumi.prod.yaml",
				old:  "config:\n",
				text: "config:\n  codexcontinue:redisPassword:\n    secure: " + value + "\n",
			}
		}

		undo := set("v1:AAAA:seeded-ciphertext").apply(t, root)
		commitAll(t, root)
		undo()
		if out := diff(t, 2, environ); !strings.Contains(out, "[secret 1] → [secret 2]") ||
			strings.Contains(out, "seeded-ciphertext") {
			t.Errorf("a secret that is gone: %s", out)
		}

		for _, c := range []struct {
			value string
			code  int
		}{{"v1:AAAA:seeded-ciphertext", 0}, {"v1:BBBB:other", 2}} {
			undo := set(c.value).apply(t, root)
			for _, format := range []string{"text", "markdown", "json"} {
				out := diff(t, c.code, environ, "--format", format)
				if strings.Contains(out, c.value) || strings.Contains(out, "placeholder") {
					t.Errorf("%s of %s shows what the secret is made of", format, c.value)
				}
			}

			undo()
		}

		// A password that was written down by mistake is refused without being repeated.
		plain := edit{
			file: "Pulumi.prod.yaml",
			old:  "config:\n",
			text: "config:\n  codexcontinue:redisPassword: seeded-hunter2\n",
		}
		defer plain.apply(t, root)()

		code, stdout, stderr := codexctl(environ, "diff", "-C", root, "--base", "main")
		if code != 1 || !strings.Contains(stderr, "codexcontinue:redisPassword: must be a secret") {
			t.Errorf("exit code %d: %s", code, stderr)
		}
		if strings.Contains(stdout+stderr, "seeded-hunter2") {
			t.Error("the value is shown")
		}
	})

	t.Run("errors", func(t *testing.T) {
		for _, c := range []struct {
			args []string
			code int
			says string
		}{
			{[]string{"--base", "nowhere"}, 1, `"nowhere" is no commit of this repository`},
			{[]string{"--base", "--output=x"}, 1, "is no revision"},
			{[]string{"--stack", "staging"}, 1, "the stacks are dev, healthcare, prod"},
			{[]string{"--format", "xml"}, 64, "the formats are"},
		} {
			code, stdout, stderr := codexctl(environ,
				append([]string{"diff", "-C", root}, c.args...)...)
			if code != c.code || !strings.Contains(stderr, c.says) || stdout != "" {
				t.Errorf("%v: exit code %d: %s%s", c.args, code, stdout, stderr)
			}
		}

		broken := edit{
			file: "stacks/prod.go",
			old:  "package stacks",
			text: "package stacks; nonsense",
		}
		defer broken.apply(t, root)()
		code, _, stderr := codexctl(environ, "diff", "-C", root)
		if code != 1 || !strings.Contains(stderr, "the working tree does not build") ||
			!strings.Contains(stderr, "stacks/prod.go:1") {
			t.Errorf("sources that do not compile: exit code %d: %s", code, stderr)
		}
	})

	t.Run("older", func(t *testing.T) {
		gitIn(t, root, "rm", "-r", "--quiet", "--cached", "infra/plan/planner")
		gitIn(t, root, "commit", "--quiet", "--message", "before plans")
		gitIn(t, root, "reset", "--quiet")
		code, _, stderr := codexctl(environ, "diff", "-C", root, "--base", "HEAD")
		if code != 1 || !strings.Contains(stderr, "older than this command") {
			t.Errorf("exit code %d: %s", code, stderr)
		}
	})
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: run `go test ./cmd/codexctl -run TestDiff -update`", err)
	}

	if got != string(want) {
		t.Errorf("%s differs: run `go test ./cmd/codexctl -run TestDiff -update && git diff`\ngot:\n%s",
			path, got)
	}
}
