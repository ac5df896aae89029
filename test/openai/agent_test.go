package openai_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/codexcontinue/codexcontinue/test/tinymodel"
)

// agentSettings have Qwen Code call nobody but the API.
const agentSettings = `{
	"privacy": {"usageStatisticsEnabled": false},
	"telemetry": {"enabled": false},
	"general": {"disableAutoUpdate": true, "disableUpdateNag": true}
}`

// event is what Qwen Code prints of a turn.
type event struct {
	Type, Subtype, Result string

	Message struct {
		Content []struct {
			Type, Name string
			Input      map[string]any
			IsError    bool `json:"is_error"`
			Content    any
		}
	}
}

// TestAgent has a coding agent, Qwen Code, work in a folder: the model calls a tool, gets what that
// says, and ends. The agent has the one tool that the model calls and a short prompt, as each letter
// of a prompt is a token of the tiny model.
func TestAgent(t *testing.T) {
	node, modules := javascript(t)
	s := start(t)
	home, project := t.TempDir(), t.TempDir()
	for file, text := range map[string]string{
		filepath.Join(home, ".qwen", "settings.json"): agentSettings,
		filepath.Join(home, "system.md"):              "You write code.\n",
		filepath.Join(project, "main.go"):             "package main\n",
	} {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	agent := exec.CommandContext(t.Context(), node,
		filepath.Join(modules, "node_modules", "@qwen-code", "qwen-code", "cli.js"),
		"--auth-type", "openai", "--output-format", "json", "--core-tools", "glob",
		"--prompt", seeded)
	agent.Dir = project
	agent.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "OPENAI_API_KEY=" + s.key,
		"OPENAI_BASE_URL=" + s.gate + "/v1", "OPENAI_MODEL=tiny",
		"QWEN_SYSTEM_MD=" + filepath.Join(home, "system.md")}
	var said bytes.Buffer
	agent.Stderr = &said
	out, err := agent.Output()
	var events []event
	if err == nil {
		err = json.Unmarshal(out, &events)
	}
	if err != nil || len(events) == 0 {
		t.Fatalf("%v: %s\n%s", err, out, said.String())
	}

	called, answered := false, false
	for _, e := range events {
		for _, c := range e.Message.Content {
			called = called || c.Type == "tool_use" && c.Name == "glob" && c.Input["pattern"] == "*"
			answered = answered || c.Type == "tool_result" && !c.IsError &&
				c.Content == "Found 1 matching file(s)"
		}
	}
	last := events[len(events)-1]
	if !called || !answered || last.Subtype != "success" || last.Result != tinymodel.Answer {
		t.Errorf("it called: %t, and was answered: %t:\n%s", called, answered, out)
	}

	s.quiet(t)
	s.unkept(t, seeded, s.key, "main.go")
}
