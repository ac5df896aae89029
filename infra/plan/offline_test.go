package plan_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/plan"
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
	for _, d := range here {
		if d.Chosen && d.Refused != "" {
			t.Errorf("%s on %s: %s", d.Stack, d.Target, d.Refused)
		}
		t.Log(d.Stack, d.Target, d.Chosen, len(d.Resources), d.Refused, d.Plugins)
	}
}

func BenchmarkDocuments(b *testing.B) {
	for b.Loop() {
		if _, err := plan.Documents(context.Background(), repository(b), nil, nil); err != nil {
			b.Fatal(err)
		}
	}
}
