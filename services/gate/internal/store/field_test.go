package store_test

import (
	"testing"

	"github.com/codexcontinue/codexcontinue/services/gate/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/redisclient"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
)

// TestSwapTwice checks that a swap whose answer was lost says the same when it is sent again.
func TestSwapTwice(t *testing.T) {
	st, err := store.New(redisclient.Address{URL: redistest.StartAs(t, "gate").URL})
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(st.Close)
	for _, tt := range []struct {
		old, value string
		want       bool
	}{
		{"a", "b", false}, {"", "a", true}, {"", "b", false}, {"a", "b", true}, {"b", "", true},
	} {
		for try := range 2 {
			done, err := st.Swap(t.Context(), "gate:test", "field", tt.old, tt.value)
			if err != nil || done != tt.want {
				t.Errorf("%q for %q, time %d: %t, %v", tt.value, tt.old, try+1, done, err)
			}
		}
	}
}
