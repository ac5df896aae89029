// Package vectors finds passages by what they mean: the nearest of all vectors, by comparing with
// each. docs/knowledge.md has what that costs, and what was measured beside it.
package vectors

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"runtime"
	"slices"
	"sync"
)

// Space is where vectors can be compared: those that one model made, with as many dimensions.
type Space struct {
	Model      string `json:"model"`
	Dimensions int    `json:"dimensions"`
}

// Set is the vectors of one document, in the order of its passages.
type Set struct {
	Space
	Document string `json:"document"`

	// Round counts how often all vectors of the collection were asked to be made anew.
	Round int `json:"round"`

	// values are the vectors one behind the other, each of length 1.
	values []float32
}

// NewSet returns the set of a document's vectors, which become unit vectors.
func NewSet(model, document string, round int, all [][]float32) (*Set, error) {
	if len(all) == 0 || len(all[0]) == 0 {
		return nil, errors.New("a model makes no vectors")
	}

	s := &Set{Space: Space{model, len(all[0])}, Document: document, Round: round}
	s.values = make([]float32, 0, len(all)*s.Dimensions)
	for _, v := range all {
		if len(v) != s.Dimensions {
			return nil, errors.New("a model makes vectors of several sizes")
		}
		u, err := Unit(v)
		if err != nil {
			return nil, err
		}
		s.values = append(s.values, u...)
	}
	return s, nil
}

// Len returns how many vectors there are.
func (s *Set) Len() int { return len(s.values) / s.Dimensions }

// Unit returns the vector of length 1 in the direction of v. One of length 0 stays so: it is near
// nothing.
func Unit(v []float32) ([]float32, error) {
	sum := 0.0
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	if math.IsNaN(sum) || math.IsInf(sum, 0) {
		return nil, errors.New("a model makes a vector that is no number")
	}

	u := make([]float32, len(v))
	if sum > 0 {
		for i, x := range v {
			u[i] = float32(float64(x) / math.Sqrt(sum))
		}
	}
	return u, nil
}

// Encode returns the set as a file has it: a line of JSON, the values, and their checksum.
func (s *Set) Encode() []byte {
	head, err := json.Marshal(s)
	if err != nil {
		panic(err) // it is texts and numbers
	}

	b := append(head, '\n')
	for _, v := range s.values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

// Decode returns the set of a file.
func Decode(b []byte) (*Set, error) {
	broken := errors.New("a file of vectors is broken")
	end := slices.Index(b, '\n') + 1
	if end == 0 || len(b) < end+4 ||
		binary.LittleEndian.Uint32(b[len(b)-4:]) != crc32.ChecksumIEEE(b[:len(b)-4]) {
		return nil, broken
	}

	s := &Set{}
	if err := json.Unmarshal(b[:end], s); err != nil {
		return nil, fmt.Errorf("%w: %w", broken, err)
	}
	values := b[end : len(b)-4]
	if s.Dimensions < 1 || len(values)%(4*s.Dimensions) != 0 {
		return nil, broken
	}

	s.values = make([]float32, len(values)/4)
	for i := range s.values {
		s.values[i] = math.Float32frombits(binary.LittleEndian.Uint32(values[4*i:]))
	}
	return s, nil
}

// Hit is a passage, by its document and its place there, and the cosine of the angle between it and
// what was asked.
type Hit struct {
	Document string
	N        int
	Cosine   float32
}

// Nearest returns the vectors of the sets that are nearest to a unit vector, the nearest first.
// Sets of another number of dimensions are left out.
func Nearest(sets []*Set, to []float32, limit int) []Hit {
	workers := min(runtime.GOMAXPROCS(0), max(len(sets), 1))
	found := make([][]Hit, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			best := top{most: limit}
			for i := w; i < len(sets); i += workers {
				if sets[i].Dimensions == len(to) {
					best.look(sets[i], to)
				}
			}
			found[w] = best.hits
		})
	}
	wg.Wait()

	all := slices.Concat(found...)
	slices.SortFunc(all, compare)
	return all[:min(len(all), limit)]
}

// compare orders hits, the nearest first. Equal ones have an order as well.
func compare(a, b Hit) int {
	return cmp.Or(cmp.Compare(b.Cosine, a.Cosine), cmp.Compare(a.Document, b.Document),
		cmp.Compare(a.N, b.N))
}

// top keeps the best hits, in their order.
type top struct {
	most int
	hits []Hit
}

func (t *top) look(s *Set, to []float32) {
	d := s.Dimensions
	for n := range s.Len() {
		c := dot(s.values[n*d:(n+1)*d], to)
		h := Hit{s.Document, n, c}
		if c <= 0 || len(t.hits) == t.most && compare(t.hits[t.most-1], h) < 0 {
			continue
		}
		i, _ := slices.BinarySearchFunc(t.hits, h, compare)
		t.hits = slices.Insert(t.hits, i, h)
		t.hits = t.hits[:min(len(t.hits), t.most)]
	}
}

// dot returns the product of two vectors of the same length. Four sums at once are about three
// times as fast as one.
func dot(a, b []float32) float32 {
	b = b[:len(a)]
	var s0, s1, s2, s3 float32
	i := 0
	for ; i+4 <= len(a); i += 4 {
		s0 += a[i] * b[i]
		s1 += a[i+1] * b[i+1]
		s2 += a[i+2] * b[i+2]
		s3 += a[i+3] * b[i+3]
	}
	for ; i < len(a); i++ {
		s0 += a[i] * b[i]
	}
	return s0 + s1 + s2 + s3
}
