package vectors_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/vectors"
	"github.com/google/go-cmp/cmp"
)

func set(t testing.TB, document string, all ...[]float32) *vectors.Set {
	t.Helper()
	s, err := vectors.NewSet("m", document, 1, all)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestNearest(t *testing.T) {
	sets := []*vectors.Set{
		set(t, "a", []float32{1, 0, 0, 0, 0}, []float32{0, 3, 0, 0, 0}),
		set(t, "b", []float32{5, 5, 0, 0, 0}, []float32{-1, -1, 0, 0, 0}, make([]float32, 5)),
		set(t, "other dimensions", []float32{1, 1}),
	}
	got := vectors.Nearest(sets, []float32{0, 1, 0, 0, 0}, 3)
	want := []vectors.Hit{{"a", 1, 1}, {"b", 0, float32(math.Sqrt(0.5))}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if got := vectors.Nearest(sets, []float32{0, 1, 0, 0, 0}, 1); len(got) != 1 || got[0].N != 1 {
		t.Errorf("got %v", got)
	}
	if got := vectors.Nearest(nil, []float32{1}, 3); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

// TestSame compares with the plainest way there is.
func TestSame(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	random := func() []float32 {
		v := make([]float32, 31)
		for i := range v {
			v[i] = float32(r.NormFloat64())
		}
		return v
	}

	var sets []*vectors.Set
	type entry struct {
		id string
		v  []float32
	}
	var all []entry
	for i := range 50 {
		var of [][]float32
		for n := range 7 {
			v := random()
			of = append(of, v)
			u, _ := vectors.Unit(v)
			all = append(all, entry{fmt.Sprint(i, " ", n), u})
		}
		sets = append(sets, set(t, fmt.Sprint(i), of...))
	}

	for range 20 {
		to, _ := vectors.Unit(random())
		got := vectors.Nearest(sets, to, 10)
		if len(got) != 10 {
			t.Fatalf("%d are found", len(got))
		}
		found := map[string]bool{}
		for _, h := range got {
			found[fmt.Sprint(h.Document, " ", h.N)] = true
		}
		for _, e := range all {
			c := 0.0
			for i := range to {
				c += float64(to[i]) * float64(e.v[i])
			}
			if c > float64(got[9].Cosine)+1e-5 && !found[e.id] {
				t.Errorf("%s with %f is not found", e.id, c)
			}
		}
	}
}

func TestFile(t *testing.T) {
	s := set(t, "a", []float32{3, 4}, []float32{0, 2})
	b := s.Encode()
	got, err := vectors.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(s, got, cmp.AllowUnexported(vectors.Set{})); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	for i := range b {
		broken := append([]byte(nil), b...)
		broken[i] ^= 1
		if _, err := vectors.Decode(broken); err == nil {
			t.Errorf("a change of byte %d is not seen", i)
		}
		if _, err := vectors.Decode(b[:i]); err == nil {
			t.Errorf("%d bytes of it are a file", i)
		}
	}
}

func TestNoVectors(t *testing.T) {
	nan := float32(math.NaN())
	for _, all := range [][][]float32{nil, {{}}, {{1}, {1, 2}}, {{nan}}} {
		if _, err := vectors.NewSet("m", "a", 0, all); err == nil {
			t.Errorf("%v is taken", all)
		}
	}
}
