package image

import (
	"testing"
	"testing/fstest"
)

func TestIsBrought(t *testing.T) {
	list := fstest.MapFS{BroughtFile: {Data: []byte("redis:8\ncodexcontinue/ml:0123456789ab\n")}}
	for _, c := range []struct {
		root fstest.MapFS
		ref  string
		want bool
	}{
		{list, "redis:8", true},
		{list, "codexcontinue/ml:0123456789ab", true},
		{list, "codexcontinue/ml:0123456789", false},
		{list, "redis", false},
		{fstest.MapFS{}, "redis:8", false},
	} {
		if got, err := IsBrought(c.root, c.ref); err != nil || got != c.want {
			t.Errorf("%s: %v, %v, want %v", c.ref, got, err, c.want)
		}
	}
}
