package store

import "testing"

func TestTooOld(t *testing.T) {
	for info, want := range map[string]string{
		"# Server\r\nredis_version:6.2.14\r\nredis_mode:standalone\r\n": "6.2.14",
		"redis_version:7.0.15\r\n":                                      "",
		"redis_version:10.0.0\r\n":                                      "",
		"redis_version:unstable\r\n":                                    "",
		// a user that may not ask
		"": "",
	} {
		if got := tooOld(info); got != want {
			t.Errorf("tooOld(%q) = %q, want %q", info, got, want)
		}
	}
}
