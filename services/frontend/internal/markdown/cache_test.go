package markdown

import (
	"fmt"
	"strings"
	"testing"
)

func TestCodeCacheIsBoundedAndKeepsWhatIsUsed(t *testing.T) {
	c := newCodeCache(4000)
	hot := "keep := 1"
	for i := range 100 {
		code := fmt.Sprintf("x%d := %s", i, strings.Repeat("1", 100))
		for range 2 {
			if got, want := c.highlight("go", code), highlight("go", code); got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
		c.highlight("go", hot)
		if c.size > c.max {
			t.Fatalf("%d bytes are kept, the bound is %d", c.size, c.max)
		}
	}
	if _, ok := c.byKey[codeKey{"go", hot}]; !ok {
		t.Error("what is used all the time was dropped")
	}
	if len(c.byKey) != c.order.Len() || len(c.byKey) < 2 {
		t.Errorf("%d keys, %d entries", len(c.byKey), c.order.Len())
	}
	big := strings.Repeat("y ", 2000)
	c.highlight("go", big)
	if _, ok := c.byKey[codeKey{"go", big}]; ok {
		t.Error("one large block pushed out the others")
	}
}
