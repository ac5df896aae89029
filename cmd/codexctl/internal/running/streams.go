package running

import "io"

// Streams are those of a command that runs in a replica.
type Streams struct {
	// In is what the command reads; nil is nothing.
	In io.Reader

	// Out and Err get what it writes. They may be written at the same time.
	Out, Err io.Writer

	// Sizes has the size of the terminal that the command is given, and each new one, until it is
	// closed. It is nil where the command has no terminal. With one, all that it writes is Out's.
	Sizes <-chan Size
}

// Size is that of a terminal, in characters.
type Size struct{ Width, Height uint16 }
