package plan_test

import (
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/plan"
)

// TestDecodeVersions holds that the documents of this version are read, and that others are
// refused by theirs.
func TestDecodeVersions(t *testing.T) {
	for text, want := range map[string]string{
		`{"version": 0}`: "version 0",
		`{"version": 2, "stack": "x", "resources": [{"urn": "u", "options": {}}]}`: "version 2",
		`{"version": 3, "stack": "x", "resources": [{"urn": "u",
			"options": {"timeouts": {"create": "5m0s"}, "version": "4.30.0"}}]}`: "",
		`{"version": 4, "more": true}`: "version 4",
	} {
		documents, err := plan.Decode([]byte(text))
		switch {
		case want == "" && (err != nil || len(documents) != 1 || documents[0].Stack != "x"):
			t.Errorf("%s: %v, %v", text, documents, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: got %v, want it to say %q", text, err, want)
		}
	}
}
