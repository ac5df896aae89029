package owndata

import (
	"bytes"
	"errors"
	"io"
)

// joined returns the members of one JSON object, and then those of another one, which is read as it
// comes. Both have members.
func joined(first []byte, second io.ReadCloser) (io.ReadCloser, error) {
	var open [1]byte
	if _, err := io.ReadFull(second, open[:]); err != nil || open[0] != '{' {
		_ = second.Close()
		return nil, errors.Join(errors.New("the export of the conversations is no object"), err)
	}

	head := append(bytes.TrimSuffix(first, []byte("\n}")), ",\n"...)
	return &join{io.MultiReader(bytes.NewReader(head), second), second}, nil
}

type join struct {
	io.Reader
	io.Closer
}
