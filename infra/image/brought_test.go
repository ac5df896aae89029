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

// TestUpstream holds that an image has its digest unless a bundle brought it.
func TestUpstream(t *testing.T) {
	list := fstest.MapFS{BroughtFile: {Data: []byte("redis:8\n")}}
	for _, c := range []struct {
		root      fstest.MapFS
		ref, want string
		brought   bool
	}{
		{list, "redis:8@sha256:1", "redis:8", true},
		{list, "redis:8", "redis:8", true},
		{list, "caddy:2@sha256:1", "caddy:2@sha256:1", false},
		{fstest.MapFS{}, "redis:8@sha256:1", "redis:8@sha256:1", false},
	} {
		got, brought, err := Upstream(c.root, c.ref)
		if err != nil || got != c.want || brought != c.brought {
			t.Errorf("%s: %s, %v, %v, want %s, %v", c.ref, got, brought, err, c.want, c.brought)
		}
	}
}
