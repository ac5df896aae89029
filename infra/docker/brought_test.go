package docker_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/image"
	"github.com/codexcontinue/codexcontinue/infra/plan"
)

// TestBroughtImage: an image that a bundle brought is not built, and its containers are the same.
func TestBroughtImage(t *testing.T) {
	stack, root := labStack("lab", "probe:1", 8080), labRoot(t)
	built := mustRecord(t, stack, root)
	ref, ok := resource(built, "docker:index/image:Image", "built").Inputs["imageName"].(string)
	if !ok {
		t.Fatal("the image is not built in the first place")
	}

	bring := func(refs string) []plan.Resource {
		file := filepath.Join(root, filepath.FromSlash(image.BroughtFile))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(refs), 0o600); err != nil {
			t.Fatal(err)
		}
		return mustRecord(t, stack, root)
	}

	brought := bring("probe:1\n" + ref + "\n")
	if r := resource(brought, "docker:index/image:Image", "built"); r.Type != "" {
		t.Errorf("it is built: %v", r.Inputs)
	}
	if r := resource(brought, "docker:index/remoteImage:RemoteImage", "built"); r.Inputs["name"] != ref {
		t.Errorf("the image is %v, want %s", r.Inputs["name"], ref)
	}

	const container = "docker:index/container:Container"
	for _, r := range brought {
		if r.Type != container {
			continue
		}
		before := resource(built, container, r.Name)
		if got, want := r.Inputs["image"], before.Inputs["image"]; got != want {
			t.Errorf("%s is made of %v, want %v", r.Name, got, want)
		}
	}

	other := bring("codexcontinue-lab-built:another\n")
	if r := resource(other, "docker:index/image:Image", "built"); r.Inputs["imageName"] != ref {
		t.Errorf("an image of other sources counts as brought: %v", r)
	}
}

// TestKeptImage: the image of an earlier release is not built, and where it is the same as that of
// the sources its containers stay.
func TestKeptImage(t *testing.T) {
	stack, root := labStack("lab", "probe:1", 8080), labRoot(t)
	built := mustRecord(t, stack, root)
	same, _ := resource(built, "docker:index/image:Image", "built").Inputs["imageName"].(string)
	for _, ref := range []string{same, "codexcontinue-lab-built:0123456789ab"} {
		stack.Service("built").Image.Kept = ref
		kept := mustRecord(t, stack, root)
		if r := resource(kept, "docker:index/image:Image", "built"); r.Type != "" {
			t.Errorf("%s: it is built: %v", ref, r.Inputs)
		}
		if r := resource(kept, "docker:index/remoteImage:RemoteImage", "built"); r.Inputs["name"] != ref {
			t.Errorf("the image is %v, want %s", r.Inputs["name"], ref)
		}

		containers := 0
		for _, r := range kept {
			before := resource(built, r.Type, r.Name)
			if r.Type != "docker:index/container:Container" || before.Inputs["image"] != any(same) {
				continue
			}
			if containers++; r.Inputs["image"] != ref {
				t.Errorf("%s is made of %v, want %s", r.Name, r.Inputs["image"], ref)
			}
		}
		if containers == 0 {
			t.Error("no container is made of it")
		}
	}
}

// resource returns the resource of that type and name, or none.
func resource(list []plan.Resource, kind, name string) plan.Resource {
	i := slices.IndexFunc(list, func(r plan.Resource) bool {
		return r.Type == kind && r.Name == name
	})
	if i < 0 {
		return plan.Resource{}
	}
	return list[i]
}
