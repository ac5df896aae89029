package tinymodel

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"slices"
)

// alignment in bytes of the tensors in the file.
const alignment = 32

// Types of GGUF metadata values and tensors, from the format's specification (version 3).
const (
	ggufUint32  uint32 = 4
	ggufInt32   uint32 = 5
	ggufFloat32 uint32 = 6
	ggufBool    uint32 = 7
	ggufString  uint32 = 8
	ggufArray   uint32 = 9

	ggmlF32 uint32 = 0
)

// tensor is a named array of weights; the first number of its shape is the length of a row.
type tensor struct {
	name  string
	shape []uint64
	data  []float32
}

// writeGGUF writes a GGUF file of version 3: a header, the metadata by key, the tensors' names
// and shapes, their data.
func writeGGUF(w io.Writer, metadata map[string]any, tensors []tensor) error {
	g := newGGUFWriter(w)
	g.raw([]byte("GGUF"))
	g.raw(uint32(3))
	g.raw(uint64(len(tensors)))
	g.raw(uint64(len(metadata)))
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		g.text(key)
		g.value(metadata[key])
	}

	var offset uint64
	for _, t := range tensors {
		g.text(t.name)
		g.raw(uint32(len(t.shape)))
		g.raw(t.shape)
		g.raw(ggmlF32)
		g.raw(offset)
		offset += aligned(uint64(len(t.data)) * 4)
	}

	for _, t := range tensors {
		g.pad()
		g.raw(t.data)
	}

	if g.err != nil {
		return g.err
	}

	return g.w.Flush()
}

// aligned rounds n bytes up to the alignment.
func aligned(n uint64) uint64 { return (n + alignment - 1) / alignment * alignment }

// ggufWriter keeps the first error and the number of bytes written.
type ggufWriter struct {
	w   *bufio.Writer
	n   uint64
	err error
}

func newGGUFWriter(w io.Writer) *ggufWriter { return &ggufWriter{w: bufio.NewWriter(w)} }

func (g *ggufWriter) raw(v any) {
	if g.err != nil {
		return
	}
	g.n += uint64(binary.Size(v))
	g.err = binary.Write(g.w, binary.LittleEndian, v)
}

func (g *ggufWriter) text(s string) {
	g.raw(uint64(len(s)))
	g.raw([]byte(s))
}

func (g *ggufWriter) pad() { g.raw(make([]byte, aligned(g.n)-g.n)) }

func (g *ggufWriter) array(kind uint32, n int) {
	g.raw(ggufArray)
	g.raw(kind)
	g.raw(uint64(n))
}

func (g *ggufWriter) value(v any) {
	switch v := v.(type) {
	case uint32:
		g.raw(ggufUint32)
		g.raw(v)
	case float32:
		g.raw(ggufFloat32)
		g.raw(v)
	case bool:
		g.raw(ggufBool)
		g.raw(v)
	case string:
		g.raw(ggufString)
		g.text(v)
	case []string:
		g.array(ggufString, len(v))
		for _, s := range v {
			g.text(s)
		}
	case []float32:
		g.array(ggufFloat32, len(v))
		g.raw(v)
	case []int32:
		g.array(ggufInt32, len(v))
		g.raw(v)
	default:
		g.err = fmt.Errorf("metadata of type %T: add it to ggufWriter.value", v)
	}
}
