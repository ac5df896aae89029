package kubernetes_test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestTypedSDK holds that no package, tests included, imports the types that Pulumi's SDK has of
// objects: they compile for minutes, and objects are registered by their fields (register.go).
func TestTypedSDK(t *testing.T) {
	const sdk = "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes"
	list := exec.Command("go", "list", "-deps", "-test", "./...")
	list.Dir = "../.."
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}

	provider := false
	for _, name := range strings.Fields(string(out)) {
		switch {
		case name == sdk:
			provider = true
		case strings.HasPrefix(name, sdk+"/") && name != sdk+"/utilities":
			t.Errorf("%s is imported: make the object by its fields", name)
		}
	}
	if !provider {
		t.Errorf("the listing of packages has no %s", sdk)
	}
}
