package measure

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/library"
	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/split"
)

// TestDomains adds the documents that a domain brings, folder by folder, and wants each of the
// questions beside them answered by one of the first three passages that are found by words.
func TestDomains(t *testing.T) {
	lists, err := filepath.Glob("../../../../modelfiles/*/documents/questions.tsv")
	if err != nil || len(lists) == 0 {
		t.Fatalf("found %v, %v", lists, err)
	}

	for _, list := range lists {
		folder := filepath.Dir(list)
		t.Run(filepath.Base(filepath.Dir(folder)), func(t *testing.T) {
			l := library.New(library.Options{
				Dir: t.TempDir(), Collections: []string{"all"}, Size: split.DefaultSize,
				Parse: reader(t).Run, Log: slog.New(slog.DiscardHandler),
			})
			if err := l.Open(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer l.Close()

			files, err := filepath.Glob(filepath.Join(folder, "*", "*"))
			if err != nil || len(files) == 0 {
				t.Fatalf("found %v, %v", files, err)
			}
			for _, file := range files {
				content, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				add(t, l, filepath.Base(file), content)
			}

			asked := map[string]bool{}
			for _, q := range questions(t, list) {
				asked[q.file] = true
				best, _, err := l.Search(t.Context(), []string{"all"}, q.text, 3,
					library.Mode{Words: true})
				if err != nil {
					t.Fatal(err)
				}
				if !q.answered(best) {
					t.Errorf("not found: %s (%s)", q.text, q.file)
				}
			}
			for _, file := range files {
				if !asked[filepath.Base(file)] {
					t.Errorf("no question is about %s", strings.TrimPrefix(file, folder))
				}
			}
		})
	}
}
