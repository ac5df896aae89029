package depot_test

import (
	"io"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/backup/internal/depot"
	"github.com/codexcontinue/codexcontinue/services/backup/internal/depottest"
	"github.com/codexcontinue/codexcontinue/test/egress"
	"github.com/codexcontinue/codexcontinue/test/storage"
)

// TestBucketThroughEgress writes and reads through the proxy of a private stack, the program itself,
// and does not where that does not let through.
func TestBucketThroughEgress(t *testing.T) {
	s := storage.Start(t, "127.0.0.1")
	for destination, through := range map[string]bool{
		strings.TrimPrefix(s.URL, "https://"): true,
		"s3.example.com:443":                  false,
	} {
		o := depottest.Options(s)
		o.Proxy = egress.Start(t, destination).URL
		b, err := depot.NewBucket(o, "prod")
		if err != nil {
			t.Fatal(err)
		}

		err = b.Create(t.Context(), "a", strings.NewReader("content"))
		if !through {
			if err == nil || !strings.Contains(err.Error(), "Forbidden") {
				t.Errorf("through an egress to %s: %v", destination, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		f, err := b.Open(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(f)
		f.Close()
		if err != nil || string(got) != "content" {
			t.Errorf("it has %q, %v", got, err)
		}
	}
}
