package tinymodel

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ollama/ollama/fs/ggml"
	"github.com/ollama/ollama/parser"
)

func model(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// The digest is part of the contract: images and model digests of different machines must agree.
func TestWriteIsTheSameEverywhere(t *testing.T) {
	sum := sha256.Sum256(model(t))
	const want = "81b0107d561e0825ac21f2f36651f1c90cdd25ea1f6ff6ad83ddbcd252f8ec62"
	if got := hex.EncodeToString(sum[:]); got != want {
		t.Errorf("sha256 %s, want %s", got, want)
	}
}

// Ollama's own reader is the oracle: the file must be what it writes itself from the same weights.
func TestOllamaReadsWhatIsWritten(t *testing.T) {
	got := model(t)
	path := filepath.Join(t.TempDir(), "oracle.gguf")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}

	v := newVocabulary()
	var tensors []*ggml.Tensor
	for _, x := range v.tensors() {
		var data bytes.Buffer
		g := newGGUFWriter(&data)
		g.raw(x.data)
		if err := g.w.Flush(); err != nil {
			t.Fatal(err)
		}

		tensors = append(tensors, &ggml.Tensor{
			Name:     x.name,
			Kind:     uint32(ggml.TensorTypeF32),
			Shape:    x.shape,
			WriterTo: &data,
		})
	}

	if err := ggml.WriteGGUF(f, ggml.KV(v.metadata()), tensors); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}

	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes differ from the %d that ggml.WriteGGUF writes", len(got), len(want))
	}

	decoded, err := ggml.Decode(bytes.NewReader(got), -1)
	if err != nil {
		t.Fatal(err)
	}

	if arch, blocks := decoded.KV().Architecture(), decoded.KV().BlockCount(); arch != "llama" ||
		blocks != 1 {
		t.Errorf("decoded %s with %d blocks, want llama with 1", arch, blocks)
	}
}

// Following the chain of tokens without Ollama gives the sentences that the constants promise.
func TestChainSaysTheAnswers(t *testing.T) {
	v := newCallingVocabulary()
	say := func(class, limit int) string {
		var b strings.Builder
		for range limit {
			id := v.next[class]
			if id == int(endID) {
				return b.String()
			}
			b.WriteString(strings.ReplaceAll(v.tokens[id], "▁", " "))
			class = v.class[id]
		}

		return b.String()
	}

	for _, tc := range []struct {
		name  string
		class int
		limit int
		want  string
	}{
		{"any prompt", 0, 100, Answer},
		{"alt", 1, 100, AltAnswer},
		{"loop", 2, 4, LoopWords + LoopWords},
		{"call", v.class[slices.Index(v.tokens, callToken)], 100, Call},
		{"filling", v.class[slices.Index(v.tokens, fillToken)], 100, Filling},
	} {
		if got := say(tc.class, tc.limit); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}

	if n := len(v.next); n > split {
		t.Errorf("%d classes do not fit into %d dimensions", n, split)
	}

	seen := map[string]bool{}
	for _, token := range v.tokens {
		if seen[token] {
			t.Errorf("token %q stands twice: the tokenizer would only know one", token)
		}
		seen[token] = true
	}
}

func TestModelfileIsValid(t *testing.T) {
	if _, err := parser.ParseFile(strings.NewReader(CallingModelfile("./tiny.gguf"))); err != nil {
		t.Errorf("a model that calls: %v", err)
	}

	for _, end := range []string{"", AltToken, LoopToken} {
		f, err := parser.ParseFile(strings.NewReader(Modelfile("./tiny.gguf", end)))
		if err != nil {
			t.Fatalf("end %q: %v", end, err)
		}

		if len(f.Commands) != 2 || f.Commands[0].Args != "./tiny.gguf" ||
			!strings.HasSuffix(f.Commands[1].Args, "[assistant]"+end) {
			t.Errorf("end %q: commands %v", end, f.Commands)
		}
	}
}

type fullDisk struct{ room int }

func (d *fullDisk) Write(p []byte) (int, error) {
	if d.room -= len(p); d.room < 0 {
		return 0, io.ErrShortWrite
	}
	return len(p), nil
}

func TestWriteReportsTheWritersError(t *testing.T) {
	for _, room := range []int{0, 5000, len(model(t)) - 1} {
		if err := Write(&fullDisk{room}); !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("room for %d bytes: error %v, want a short write", room, err)
		}
	}
}
