package job

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"filippo.io/age"

	"github.com/codexcontinue/codexcontinue/services/backup/archive"
	"github.com/codexcontinue/codexcontinue/services/backup/internal/depot"
	"github.com/codexcontinue/codexcontinue/services/backup/internal/depottest"
)

// put gives the job the weights, if it asks for them, and returns their SHA-256 and whether it did.
func (b *bench) put(t *testing.T, content string) (sum string, asked bool) {
	t.Helper()
	sum = fmt.Sprintf("%x", sha256.Sum256([]byte(content)))
	missing, err := b.MissingWeights(t.Context(), []string{sum})
	if err != nil {
		t.Fatal(err)
	}
	if len(missing) == 0 {
		return sum, false
	}
	if err := b.PutWeights(t.Context(), sum, strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	return sum, slices.Equal(missing, []string{sum})
}

// state keeps a state whose model needs the weights.
func (b *bench) state(t *testing.T, sums ...string) error {
	t.Helper()
	m := &archive.Model{}
	for _, sum := range sums {
		m.Files = append(m.Files, archive.ModelFile{Path: "m/w.gguf", SHA256: sum, Left: true, Beside: true})
	}
	return b.PutState(t.Context(), archive.State{Deployment: json.RawMessage("{}"), Model: m})
}

// TestWeights keeps weights once, for the recipients alone, and finds that they are damaged.
func TestWeights(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		const content = "weights of somebody's own"
		sum, asked := b.put(t, content)
		if !asked {
			t.Error("they are not asked for")
		}
		if _, again := b.put(t, content); again {
			t.Error("they are asked for twice")
		}
		sealed := b.file(t, archive.WeightsFile(sum))
		var got bytes.Buffer
		err := archive.OpenWeights(&got, []age.Identity{b.id}, sum, bytes.NewReader(sealed))
		if err != nil || got.String() != content || bytes.Contains(sealed, []byte("weights")) {
			t.Errorf("%q, %v", got.String(), err)
		}

		if err := b.state(t, sum); err != nil {
			t.Fatal(err)
		}
		b.now = b.now.Add(time.Minute)
		name := b.create(t)
		if err := b.Verify(ctx, name); err != nil {
			t.Error(err)
		}
		sealed[len(sealed)/2] ^= 1
		if err := b.Depot.Create(ctx, archive.WeightsFile(sum), bytes.NewReader(sealed)); err != nil {
			t.Fatal(err)
		}
		if err := b.Verify(ctx, name); err == nil || !strings.Contains(err.Error(), "damaged") ||
			!strings.Contains(err.Error(), sum) {
			t.Errorf("damaged weights: %v", err)
		}

		// As the error says, they are kept again without their summary.
		if err := b.Depot.Remove(ctx, archive.WeightsSummaryFile(sum)); err != nil {
			t.Fatal(err)
		}
		if err := b.Verify(ctx, name); !errors.Is(err, depot.ErrNotFound) ||
			strings.Contains(err.Error(), "is removed") {
			t.Errorf("weights without a summary: %v", err)
		}
		if _, asked := b.put(t, content); !asked || b.Verify(ctx, name) != nil {
			t.Errorf("asked again: %t", asked)
		}

		id, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		b.Keys = append(b.Keys, id.Recipient())
		b.Recipients = append(b.Recipients, id.Recipient().String())
		broken := iotest.ErrReader(errors.New("the connection broke"))
		if b.PutWeights(ctx, sum, broken) == nil || b.Verify(ctx, name) != nil {
			t.Error("weights that are not sent whole to another recipient take those away that there are")
		}
		if _, asked := b.put(t, content); !asked {
			t.Error("another recipient cannot read them")
		}
		if err := b.Verify(ctx, name); err != nil {
			t.Errorf("sent again to other recipients: %v", err)
		}
		err = archive.OpenWeights(io.Discard, []age.Identity{id}, sum,
			bytes.NewReader(b.file(t, archive.WeightsFile(sum))))
		if err != nil {
			t.Error(err)
		}
	})
}

// TestWeightsFailed: weights that are cut, others, or that are not stored as they were written are not
// there, and no state names them.
func TestWeightsFailed(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		sum := fmt.Sprintf("%x", sha256.Sum256([]byte("all of it")))
		broken := errors.New("the connection broke")
		for want, from := range map[string]io.Reader{
			"they are cut": strings.NewReader("all of"),
			"broke":        io.MultiReader(strings.NewReader("all of"), iotest.ErrReader(broken)),
		} {
			err := b.PutWeights(t.Context(), sum, from)
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), sum) {
				t.Errorf("%s: %v", want, err)
			}
		}
		if names := b.names(t); len(names) > 0 {
			t.Errorf("there are %q", names)
		}
		if err := b.state(t, sum); err == nil || !strings.Contains(err.Error(), "are not there") {
			t.Errorf("a state without its weights: %v", err)
		}
		if b.state(t, "../../x") == nil {
			t.Error("what is no SHA-256 is taken")
		}
	})

	b := newBench(t, lying{depottest.Directory(t)})
	content := strings.Repeat("weights", 100)
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(content)))
	err := b.PutWeights(t.Context(), sum, strings.NewReader(content))
	if err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("got %v", err)
	}
	if _, asked := b.put(t, "x"); !asked {
		t.Error("it goes on as if they were there")
	}
}

// TestWeightsPruned drops weights with the last state that needs them, and what was left half-made. What
// is about to be named by a state stays for a day.
func TestWeightsPruned(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		sums := map[string]string{}
		there := func(want ...string) {
			t.Helper()
			names := b.names(t)
			for content, sum := range sums {
				for _, name := range []string{archive.WeightsFile(sum), archive.WeightsSummaryFile(sum)} {
					if slices.Contains(names, name) != slices.Contains(want, content) {
						t.Errorf("%s of %q is there: %t", name, content, slices.Contains(names, name))
					}
				}
			}
		}
		for _, day := range [][]string{{"a", "both"}, {"both"}, {"b", "both"}, {"b"}} {
			var needs []string
			for _, content := range day {
				sums[content], _ = b.put(t, content)
				needs = append(needs, sums[content])
			}
			if err := b.state(t, needs...); err != nil {
				t.Fatal(err)
			}
			b.now = b.now.Add(time.Hour)
			b.create(t)
			b.now = b.now.Add(47 * time.Hour)
		}
		there("b", "both") // of the last two backups

		sums["late"] = fmt.Sprintf("%x", sha256.Sum256([]byte("late")))
		if _, err := b.MissingWeights(t.Context(), []string{sums["late"]}); err != nil {
			t.Fatal(err)
		}
		b.now = b.now.Add(25 * time.Hour) // for which they are sent
		if err := b.PutWeights(t.Context(), sums["late"], strings.NewReader("late")); err != nil {
			t.Fatal(err)
		}
		b.create(t)
		there("b", "late")
		b.now = b.now.Add(25 * time.Hour)
		b.create(t)
		there("b")
		for _, name := range b.names(t) {
			if kind, sum, _ := archive.Parse(name); kind == archive.Need && sum != sums["b"] {
				t.Errorf("%s is left", name)
			}
		}
	})
}
