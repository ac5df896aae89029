package web

import (
	"maps"
	"slices"
)

// Patterns returns the patterns of all routes but the probes'.
func (a *App) Patterns() []string { return slices.Sorted(maps.Keys(a.routes())) }
