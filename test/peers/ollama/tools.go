//go:build tools

// Package tools pins, beside Ollama itself, what building it needs.
package tools

// carries miniaudio.h, which Ollama's copy of llama.cpp includes
import _ "github.com/gen2brain/malgo"
