package parse

import "testing"

func TestConfinedBy(t *testing.T) {
	for version, want := range map[int]Confinement{
		0: {}, 1: {Files: true}, 3: {Files: true}, 4: {true, true}, 9: {true, true},
	} {
		got := confinedBy(version)
		if got != want || got.Whole() != (version >= 4) {
			t.Errorf("version %d: %+v, want %+v", version, got, want)
		}
	}
}
