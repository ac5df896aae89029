//go:build tools

// Package tools pins what building Ollama needs in addition to Ollama itself.
package tools

// The package carries miniaudio.h, which Ollama's copy of llama.cpp includes.
import _ "github.com/gen2brain/malgo"
