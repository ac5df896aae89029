package progress

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/apitype"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const (
	image     = "docker:index/image:Image"
	remote    = "docker:index/remoteImage:RemoteImage"
	container = "docker:index/container:Container"
	volume    = "docker:index/volume:Volume"
	component = "codexcontinue:docker:Service"
)

func urnOf(typ, name string) string {
	return "urn:pulumi:dev::codexcontinue::" + component + "$" + typ + "::" + name
}

// script plays events with a clock of its own.
type script struct {
	d  *Display
	at time.Time
}

func (s *script) pass(d time.Duration) {
	for range int(d / time.Second) {
		s.at = s.at.Add(time.Second)
		s.d.Tick()
	}
}

func (s *script) begin(op apitype.OpType, typ, name string, inputs map[string]any) {
	s.d.Handle(apitype.EngineEvent{ResourcePreEvent: &apitype.ResourcePreEvent{
		Metadata: meta(op, typ, name, inputs),
	}})
}

func (s *script) end(op apitype.OpType, typ, name string) {
	s.d.Handle(apitype.EngineEvent{ResOutputsEvent: &apitype.ResOutputsEvent{
		Metadata: meta(op, typ, name, nil),
	}})
}

func (s *script) fail(op apitype.OpType, typ, name string) {
	s.d.Handle(apitype.EngineEvent{ResOpFailedEvent: &apitype.ResOpFailedEvent{
		Metadata: meta(op, typ, name, nil),
	}})
}

func (s *script) says(severity, u, message string) {
	s.d.Handle(apitype.EngineEvent{DiagnosticEvent: &apitype.DiagnosticEvent{
		Severity: severity,
		URN:      u,
		Message:  message,
	}})
}

func meta(op apitype.OpType, typ, name string, inputs map[string]any) apitype.StepEventMetadata {
	return apitype.StepEventMetadata{
		Op:   op,
		URN:  urnOf(typ, name),
		Type: typ,
		New:  &apitype.StepEventStateMetadata{Inputs: inputs},
		Old:  &apitype.StepEventStateMetadata{RetainOnDelete: typ == volume},
	}
}

func play(t *testing.T, out *console.Console, buf *bytes.Buffer) (Result, string) {
	t.Helper()
	s := &script{at: time.Unix(1000, 0)}
	s.d = New(out, func() time.Time { return s.at })
	stack := "urn:pulumi:dev::codexcontinue::pulumi:pulumi:Stack::codexcontinue-dev"
	s.d.Handle(apitype.EngineEvent{ResourcePreEvent: &apitype.ResourcePreEvent{
		Metadata: apitype.StepEventMetadata{
			Op:   apitype.OpCreate,
			URN:  stack,
			Type: "pulumi:pulumi:Stack",
		},
	}})

	s.begin(apitype.OpSame, "docker:index/network:Network", "codexcontinue-network", nil)
	s.begin(apitype.OpCreate, remote, "redis", nil)
	s.begin(apitype.OpCreate, image, "backend", nil)
	s.pass(3 * time.Second)
	s.end(apitype.OpCreate, remote, "redis")
	s.says("info", urnOf(image, "backend"),
		"<{%reset%}>#7 [base 2/3] RUN \x1b[31mgo\x1b[0m mod download<{%reset%}>\n"+
			"#7 1.2 go: downloading github.com/redis/go-redis/v9 v9.23.0")
	s.begin(apitype.OpCreate, container, "codexcontinue-dev-redis-files",
		map[string]any{"mustRun": false})
	s.end(apitype.OpCreate, container, "codexcontinue-dev-redis-files")
	s.says("warning", "",
		"the engine has only 2 processors, which is little for a stack of six services with a "+
			"model of its own")
	s.says("warning", "", "using pulumi-resource-docker from $PATH at /x")
	s.pass(20 * time.Second)
	s.end(apitype.OpCreate, image, "backend")
	s.begin(apitype.OpCreateReplacement, container, "codexcontinue-dev-backend", nil)
	s.begin(apitype.OpReplace, container, "codexcontinue-dev-backend", nil)
	s.pass(2 * time.Second)
	s.end(apitype.OpCreateReplacement, container, "codexcontinue-dev-backend")
	s.begin(apitype.OpDelete, volume, "redis-data", nil)
	s.end(apitype.OpDelete, volume, "redis-data")
	s.begin(apitype.OpCreate, container, "codexcontinue-dev-ml", nil)
	s.pass(1 * time.Second)
	s.says("error", urnOf(container, "codexcontinue-dev-ml"),
		"container failed to be in healthy state")
	s.fail(apitype.OpCreate, container, "codexcontinue-dev-ml")
	s.d.clear()
	return s.d.result, buf.String()
}

func TestGolden(t *testing.T) {
	for name, set := range map[string]func(c *console.Console){
		"plain":    func(*console.Console) {},
		"terminal": func(c *console.Console) { c.Terminal, c.Color = true, true },
	} {
		t.Run(name, func(t *testing.T) {
			var buf bytes.Buffer
			out := console.New(&buf, func(string) string { return "" })
			set(out)
			result, text := play(t, out, &buf)
			if len(result.Errors) != 1 || result.Errors[0].Service() != "ml" ||
				result.Unchanged != 1 || len(result.Steps) != 6 {
				t.Errorf("result: %d errors, %d unchanged, %d steps: %+v", len(result.Errors),
					result.Unchanged, len(result.Steps), result)
			}

			for line := range strings.Lines(text) {
				if n := len([]rune(strings.TrimSpace(console.Plain(line)))); n > console.DefaultWidth {
					t.Errorf("a line of %d columns: %q", n, line)
				}
			}

			text = strings.ReplaceAll(text, "\x1b", `\e`)
			golden := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.MkdirAll("testdata", 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(golden, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}

			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if text != string(want) {
				t.Errorf("differs from %s (-update rewrites it):\n%s", golden, text)
			}
		})
	}
}

func TestServiceOf(t *testing.T) {
	for want, u := range map[string]string{
		"backend":    urnOf(container, "codexcontinue-dev-backend-2"),
		"redis":      urnOf(container, "codexcontinue-dev-redis-files"),
		"frontend":   urnOf(image, "frontend"),
		"redis-data": urnOf(volume, "redis-data"),
		"":           "no urn",
	} {
		if got := serviceOf(u); got != want {
			t.Errorf("%s: %q, want %q", u, got, want)
		}
	}
}
