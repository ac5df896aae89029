package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/identity/identitytest"
	"github.com/codexcontinue/codexcontinue/services/internal/knowledgeapi"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/services/knowledge/knowledgeenv"
)

var (
	seed  = flag.Uint64("seed", 1, "of the schedule of TestKills")
	kills = flag.Int("kills", 8, "how often TestKills kills the service")
)

// parts is how many passages a document of TestKills has.
const parts = 5

// writer adds, replaces and removes documents of its own, and knows what must be there.
type writer struct {
	s     *service
	n     int
	turns *rand.Rand
	count int

	// acked is the mark of each document's content as it was acknowledged, "" of none; asked is
	// what was asked for and not answered: one of the two is there.
	acked, asked map[string]string
	gone         []string // marks that must not be on disk in the end
}

// mark returns a word that no other content has.
func (w *writer) mark() string {
	w.count++
	return fmt.Sprintf("mark%dx%dx%d", w.n, w.count, w.turns.IntN(1<<30))
}

func content(mark string) []byte {
	var b bytes.Buffer
	for i := range parts {
		fmt.Fprintf(&b, "# Part %d\n\nThe words of %s in part %d.\n\n", i, mark, i)
	}
	return b.Bytes()
}

// turn does one thing. It returns an error if it is not answered.
func (w *writer) turn() error {
	file := fmt.Sprintf("%d-%d.md", w.n, w.turns.IntN(3))
	old, mark := w.acked[file], ""
	if old == "" || w.turns.IntN(3) > 0 {
		mark = w.mark()
	}
	w.asked[file] = mark

	var status int
	var err error
	if mark != "" {
		status, err = w.s.do(admin, "PUT", documentPath("guidelines", file), content(mark), nil)
	} else {
		var id string
		if id, err = w.s.id(file); err == nil {
			status, err = w.s.do(admin, "DELETE", documentPath("guidelines", id), nil, nil)
		}
	}
	if err != nil || status == http.StatusServiceUnavailable {
		return fmt.Errorf("%d %w", status, err)
	}
	if status != http.StatusAccepted && status != http.StatusNoContent {
		w.s.t.Errorf("%s: %d", file, status)
	}

	w.acked[file] = mark
	delete(w.asked, file)
	if old != "" {
		w.gone = append(w.gone, old)
	}
	return nil
}

// id returns the id of a document.
func (s *service) id(file string) (string, error) {
	var list knowledgeapi.Documents
	if _, err := s.do(admin, "GET", "/collections/guidelines/documents", nil, &list); err != nil {
		return "", err
	}
	for _, d := range list.Documents {
		if d.File == file {
			return d.ID, nil
		}
	}
	return "", fmt.Errorf("%s is not there", file)
}

// check compares what is there with what must be, and takes what is there as acknowledged.
func (w *writer) check() {
	w.s.t.Helper()
	for n := range 3 {
		file := fmt.Sprintf("%d-%d.md", w.n, n)
		asked, open := w.asked[file]
		marks := []string{w.acked[file]}
		if open && asked != w.acked[file] {
			marks = append(marks, asked)
		}

		_, err := w.s.id(file)
		there := err == nil
		found := ""
		for _, mark := range marks {
			if mark == "" {
				continue
			}
			body, _ := json.Marshal(knowledgeapi.SearchRequest{Query: mark, Limit: 20})
			var response knowledgeapi.SearchResponse
			w.s.want(visitor, "POST", "/search", body, &response, http.StatusOK)
			n := 0
			for _, p := range response.Passages {
				if strings.Contains(p.Text, mark) {
					n++
				}
			}
			switch n {
			case 0:
			case parts:
				found += mark
			default:
				w.s.t.Errorf("%s: %d of %d passages of %s are found", file, n, parts, mark)
			}
		}

		ok := false
		for _, mark := range marks {
			ok = ok || found == mark && there == (mark != "")
		}
		if !ok {
			w.s.t.Errorf("%s: %q is found, in the list: %v; want one of %q", file, found, there, marks)
		}
		for _, mark := range marks {
			if mark != found && mark != "" {
				w.gone = append(w.gone, mark)
			}
		}
		w.acked[file] = found
		delete(w.asked, file)
	}
}

// TestKills kills the service again and again while documents are added, replaced, removed and
// searched, and their vectors made anew. What was acknowledged must be there, whole, and nothing
// else, and in the end nothing on disk of what is gone.
func TestKills(t *testing.T) {
	redis := redistest.StartAs(t, identity.Knowledge)
	ml := newML(t, unbound(redis))
	s := newService(t, func(c *knowledgeenv.Config) {
		c.RedisURL, c.MLServiceURL, c.EmbeddingModel = redis.URL, ml.URL, "tiny"
	})
	s.gate = identitytest.Signer(t, unbound(redis), identity.Gate)

	t.Logf("-seed %d", *seed)
	schedule := rand.New(rand.NewPCG(*seed, 0))
	var writers []*writer
	for n := range 3 {
		writers = append(writers, &writer{s: s, n: n, acked: map[string]string{},
			asked: map[string]string{}, turns: rand.New(rand.NewPCG(*seed, uint64(n+1)))})
	}

	var acknowledged, searches atomic.Int64
	for range *kills {
		before := acknowledged.Load()
		var wg sync.WaitGroup
		stop := make(chan struct{})
		for _, w := range writers {
			wg.Go(func() {
				for w.turn() == nil {
					acknowledged.Add(1)
				}
			})
		}
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				status, err := s.do(visitor, "POST", "/search", []byte(`{"query":"the words"}`), nil)
				if err == nil && status != http.StatusOK {
					t.Errorf("a search: %d", status)
				}
				searches.Add(1)
				_, _ = s.do(admin, "POST", "/collections/guidelines/reindex", nil, nil)
			}
		})

		// The schedule decides when; the test holds at any moment. Where nothing was acknowledged it
		// would show nothing.
		until(t, "a change is acknowledged", func() bool { return acknowledged.Load() > before })
		time.Sleep(time.Duration(schedule.IntN(1500)) * time.Millisecond)
		s.kill()
		close(stop)
		wg.Wait()
		s.start()
		for _, w := range writers {
			w.check()
		}
	}
	t.Logf("%d changes were acknowledged, %d searches made", acknowledged.Load(), searches.Load())

	until(t, "what is gone is purged", func() bool {
		_, err := os.Stat(filepath.Join(s.cfg.DataDir, "collections", "guidelines", "purge"))
		return os.IsNotExist(err)
	})
	if err := s.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		t.Error(err)
	}

	gone := 0
	for _, w := range writers {
		for _, mark := range w.gone {
			gone++
			if files := holding(t, s.cfg.DataDir, mark); len(files) > 0 {
				t.Errorf("%s is gone, and still in %q", mark, files)
			}
		}
		for file, mark := range w.acked {
			if mark != "" && len(holding(t, s.cfg.DataDir, mark)) == 0 {
				t.Errorf("%s of %s is not on disk: the test shows nothing", mark, file)
			}
		}
	}
	t.Logf("%d contents are gone", gone)
}

// holding returns the files below dir that have the text.
func holding(t testing.TB, dir, text string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(text)) {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
