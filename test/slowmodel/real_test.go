//go:build unix

package slowmodel_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/test/peers"
	"github.com/codexcontinue/codexcontinue/test/slowmodel"
	"github.com/codexcontinue/codexcontinue/test/tinymodel"
)

// TestReal runs the command in front of a real Ollama, as its container does.
func TestReal(t *testing.T) {
	real := peers.Find(t, "ollama", "ollama")
	dir := t.TempDir()
	program := filepath.Join(dir, "ollama")
	build := exec.Command("go", "build", "-o", program, "./cmd/slowmodel")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}

	address := "127.0.0.1:" + peers.FreePort(t, "127.0.0.1")
	env := append(
		os.Environ(),
		"OLLAMA_REAL="+real,
		"OLLAMA_HOST="+address,
		"HOME="+dir,
		"OLLAMA_MODELS="+filepath.Join(dir, "models"),
		"OLLAMA_NO_CLOUD=1",
	)

	server := exec.Command(program, "serve")
	server.Env = env
	server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = syscall.Kill(-server.Process.Pid, syscall.SIGKILL) })
	ollama := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(program, args...)
		cmd.Dir, cmd.Env = dir, env
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("ollama %v: %v: %s", args, err, out)
		}

		return string(out)
	}

	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if resp, err := http.Get("http://" + address + "/api/version"); err == nil {
			resp.Body.Close()
			break
		} else if time.Since(start) > time.Minute {
			t.Fatal(err)
		}
	}

	var weights bytes.Buffer
	if err := tinymodel.Write(&weights); err != nil {
		t.Fatal(err)
	}

	files := map[string]string{
		"tiny.gguf": weights.String(), "Modelfile": ollama("modelfile", "./tiny.gguf"),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	ollama("create", "tiny", "-f", "Modelfile")
	if list := ollama("list"); !strings.Contains(list, "tiny:latest") {
		t.Errorf("the list is %s", list)
	}

	chat := func(fields map[string]any) map[string]any {
		t.Helper()
		fields["model"], fields["stream"] = "tiny", false
		body, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}

		resp, err := http.Post(
			"http://"+address+"/api/chat",
			"application/json",
			bytes.NewReader(body),
		)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()

		var out map[string]any
		if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
			t.Fatal(err)
		}

		return out
	}

	type message map[string]string
	cut := []message{
		{"role": "system", "content": "Be brief."},
		{"role": "user", "content": slowmodel.Question(4, time.Millisecond)},
		{"role": "assistant", "content": "w1 w2 w"},
	}

	whole := chat(map[string]any{"messages": cut[:2]})
	if got := whole["message"].(map[string]any)["content"]; got != slowmodel.Text(4) ||
		whole["prompt_eval_count"].(float64) != 11 {
		t.Errorf("the answer is %v", whole)
	}

	left := chat(map[string]any{"messages": cut})["message"].(map[string]any)["content"]
	if left != "3 w4 end." {
		t.Errorf("the rest of the answer is %v", left)
	}

	// The prompts that the model's template makes: a new answer is begun, and a cut one is left
	// open.
	for count, want := range map[int]string{2: "\n[assistant] ", 3: "\n[assistant] w1 w2 w"} {
		shown := chat(map[string]any{"messages": cut[:count], "_debug_render_only": true})
		info := shown["_debug_info"]
		prompt, _ := info.(map[string]any)["rendered_template"].(string)
		if !strings.HasPrefix(prompt, "[SYS]Be brief.[/SYS]\n") ||
			!strings.HasSuffix(prompt, want) {
			t.Errorf("the prompt of %d messages is %q", count, prompt)
		}
	}

	// It ends at once when it is told to, whoever reads.
	resp, err := http.Post(
		"http://"+address+"/api/chat",
		"application/json",
		strings.NewReader(
			`{"model":"tiny","messages":[{"role":"user","content":"count 1000 every 100ms"}]}`,
		),
	)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}

	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(time.Minute): // the answer takes longer
		t.Error("it does not end")
	}
}
