//go:build tools

// Package tools pins, beside Ollama itself, what building it needs.
package tools

import _ "github.com/gen2brain/malgo" // carries miniaudio.h, which Ollama's copy of llama.cpp includes
