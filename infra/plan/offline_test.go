package plan_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/secret"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

func repository(t testing.TB) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// TestDocuments checks that the shipped stacks have plans that are the same from every folder.
func TestDocuments(t *testing.T) {
	here, err := plan.Documents(context.Background(), repository(t), nil, nil)
	if err != nil {
		t.Fatal(err)
	}

	copied := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.Symlink(repository(t), copied); err != nil {
		t.Fatal(err)
	}

	there, err := plan.Documents(context.Background(), copied, nil, nil)
	if err != nil {
		t.Fatal(err)
	}

	var a, b bytes.Buffer
	if err := plan.Encode(&a, here...); err != nil {
		t.Fatal(err)
	}
	if err := plan.Encode(&b, there...); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("the plans of two folders with the same files differ")
	}
	if bytes.Contains(a.Bytes(), []byte(repository(t))) {
		t.Errorf("the plans hold the path %s", repository(t))
	}

	decoded, err := plan.Decode(a.Bytes())
	if err != nil {
		t.Fatal(err)
	}

	var again bytes.Buffer
	if err := plan.Encode(&again, decoded...); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Bytes(), again.Bytes()) {
		t.Error("the plans are not the same after they were read")
	}

	for _, d := range here {
		if d.Chosen && d.Refused != "" {
			t.Errorf("%s on %s: %s", d.Stack, d.Target, d.Refused)
		}
		t.Log(d.Stack, d.Target, d.Chosen, len(d.Resources), d.Refused, d.Plugins)
	}
}

// TestNoOwnProcessor holds that a plan that is made on a machine of arm64 is the one of amd64: the
// program is made of the same files of this repository for both, and none asks what it runs on. The
// goldens hold that the platform is a setting's.
func TestNoOwnProcessor(t *testing.T) {
	asks := regexp.MustCompile(`runtime\.(GOARCH|NumCPU|GOMAXPROCS)\b`)
	var first string
	for _, processor := range []string{"amd64", "arm64"} {
		cmd := exec.Command("go", "list", "-deps", "-f",
			`{{$dir := .Dir}}{{with .Module}}{{if .Main}}{{range $.GoFiles}}{{$dir}}/{{.}}{{"\n"}}`+
				`{{end}}{{end}}{{end}}`, "./infra/plan/planner", "./infra")
		cmd.Dir = repository(t)
		cmd.Env = append(os.Environ(), "GOOS=linux", "CGO_ENABLED=0", "GOARCH="+processor)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}

		files := strings.Fields(string(out))
		if len(files) < 100 {
			t.Fatalf("the program is made of %d files", len(files))
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if found := asks.Find(text); found != nil {
				t.Errorf("%s has %s", file, found)
			}
		}

		if first == "" {
			first = string(out)
		} else if string(out) != first {
			t.Errorf("the program is made of other files on %s", processor)
		}
	}
}

// TestOtherProcessor compares the plans of the shipped stacks with those of the program that is built
// for another processor, of which this machine runs programs as well. Where Go's cache has none of
// that processor's packages they take minutes to compile.
func TestOtherProcessor(t *testing.T) {
	peers.EndToEnd(t)
	other := map[string]string{"amd64": "386", "arm64": "arm"}[runtime.GOARCH]
	if runtime.GOOS != "linux" || other == "" {
		t.Skip("only Linux on amd64 or arm64 runs programs for another processor")
	}

	program := filepath.Join(t.TempDir(), "planner")
	// Without optimizing it compiles in two thirds of the time.
	build := exec.Command("go", "build", "-buildvcs=false", "-gcflags=all=-N -l -dwarf=false",
		"-ldflags=-s -w", "-o", program, "./infra/plan/planner")
	build.Dir = repository(t)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+other)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	const key = "0123456789abcdef"
	run := exec.Command(program, repository(t))
	run.Stdin = strings.NewReader(key)
	var there, said bytes.Buffer
	run.Stdout, run.Stderr = &there, &said
	err := run.Run()
	if errors.Is(err, syscall.ENOEXEC) {
		t.Skipf("this machine does not run programs for %s", other)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}

	var here bytes.Buffer
	if err := plan.Print(t.Context(), &here, repository(t), []byte(key)); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(here.Bytes(), there.Bytes()) {
		return
	}

	lines := strings.Split(there.String(), "\n")
	for i, line := range strings.Split(here.String(), "\n") {
		if i == len(lines) || line != lines[i] {
			t.Fatalf("the plans differ from line %d on: %q on %s, %q on %s", i+1, line,
				runtime.GOARCH, lines[i:min(i+1, len(lines))], other)
		}
	}
	t.Fatalf("the plans of %s have more lines", other)
}

// TestRepeat checks that the same files have the same plan each time, however the
// program's goroutines run.
func TestRepeat(t *testing.T) {
	var first bytes.Buffer
	for i := range 8 {
		documents, err := plan.Documents(context.Background(), repository(t), nil,
			[]byte("0123456789abcdef"))
		if err != nil {
			t.Fatal(err)
		}

		var text bytes.Buffer
		if err := plan.Encode(&text, documents...); err != nil {
			t.Fatal(err)
		}

		if i == 0 {
			first = text
		} else if !bytes.Equal(first.Bytes(), text.Bytes()) {
			t.Fatal("two plans of the same files differ: does the program change arguments after " +
				"it has handed them over?")
		}
	}
}

// TestFingerprints checks that a fingerprint depends on the value and on the key, and that no
// value or key is in a plan.
func TestFingerprints(t *testing.T) {
	record := func(secure, key string) (string, string) {
		root := t.TempDir()
		for _, dir := range []string{"modelfiles", "services"} {
			from := os.DirFS(filepath.Join(repository(t), dir))
			if err := os.CopyFS(filepath.Join(root, dir), from); err != nil {
				t.Fatal(err)
			}
		}

		for name, text := range map[string]string{"Pulumi.yaml": "name: codexcontinue\nruntime: go\n",
			"Pulumi.prod.yaml": "config:\n  codexcontinue:redisPassword: {secure: " + secure + "}\n"} {
			if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}

		p, err := plan.Of(context.Background(), root, "prod", plan.OfOptions{Key: []byte(key)})
		if err != nil {
			t.Fatal(err)
		}

		var text bytes.Buffer
		if err := plan.Encode(&text, p.Document); err != nil {
			t.Fatal(err)
		}

		for _, word := range []string{secure, key, secret.Placeholder} {
			if word != "" && bytes.Contains(text.Bytes(), []byte(word)) {
				t.Errorf("the plan holds %q", word)
			}
		}

		for _, r := range p.Document.Resources {
			if print := r.Fingerprints["uploads"]; r.Name == "codexcontinue-prod-backend-files" {
				return print, text.String()
			}
		}

		t.Fatal("no resource carries the secret")
		return "", ""
	}

	a, text := record("v1:aaaa:seeded", "key-of-this-run-1")
	again, same := record("v1:aaaa:seeded", "key-of-this-run-1")
	b, _ := record("v1:bbbb:seeded", "key-of-this-run-1")
	c, _ := record("v1:aaaa:seeded", "key-of-this-run-2")
	if none, _ := record("v1:aaaa:seeded", ""); none == a || a == "" || a != again ||
		text != same || a == b || a == c {
		t.Errorf("fingerprints: %q, again %q, another value %q, another key %q, no key %q", a,
			again, b, c, none)
	}
}

func BenchmarkDocuments(b *testing.B) {
	for b.Loop() {
		if _, err := plan.Documents(context.Background(), repository(b), nil, nil); err != nil {
			b.Fatal(err)
		}
	}
}
