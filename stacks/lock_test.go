package stacks_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/codexcontinue/codexcontinue/stacks"
)

var (
	oneDigest   = "sha256:" + strings.Repeat("1", 64)
	otherDigest = "sha256:" + strings.Repeat("2", 64)
)

// locked loads prod with a lock file.
func locked(t *testing.T, platforms []string, list ...stacks.LockedImage) (stacks.Stack, error) {
	t.Helper()
	text, err := stacks.Lock{Images: list}.Encode()
	if err != nil {
		t.Fatal(err)
	}

	files := fstest.MapFS{stacks.LockFile: {Data: text}}
	for _, name := range []string{"Modelfile", "domain.yaml", "evals.yaml"} {
		name = "modelfiles/codexcontinue/" + name
		data, err := os.ReadFile("../" + name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: data}
	}

	settings := withPassword()
	settings.Platforms = platforms
	return stacks.Load("prod", settings, stacks.Checkout{FS: files})
}

// TestLock holds that a digest becomes part of what runs and of what is built from it, and that an
// image of which nobody knows a digest has none.
func TestLock(t *testing.T) {
	s, err := locked(t, nil,
		stacks.LockedImage{
			Name: "redis", Tag: "8.2.1-bookworm", Digest: oneDigest,
			Platforms: []string{"linux/amd64", "linux/arm64"},
		},
		stacks.LockedImage{Name: "golang", Tag: "1.26.8-bookworm", Digest: otherDigest},
		stacks.LockedImage{Name: "caddy", Tag: "2.11.9"},
		stacks.LockedImage{
			Name: "ollama/ollama", Tag: "0.17.4", IDs: map[string]string{"linux/amd64": oneDigest},
		})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}

	for service, want := range map[string]stacks.Image{
		stacks.Redis: {Ref: stacks.RedisImage + "@" + oneDigest},
		stacks.Edge:  {Ref: stacks.CaddyImage},
	} {
		if d := cmp.Diff(want, s.Service(service).Image); d != "" {
			t.Errorf("%s (-want +got):\n%s", service, d)
		}
	}

	for service, want := range map[string]map[string]string{
		stacks.Backend: {"SERVICE": stacks.Backend, "GO_IMAGE": stacks.GoImage + "@" + otherDigest},
		stacks.Ollama: {
			"OLLAMA_IMAGE": stacks.OllamaImage, "GO_IMAGE": stacks.GoImage + "@" + otherDigest,
		},
	} {
		if d := cmp.Diff(want, s.Service(service).Image.Build.Args); d != "" {
			t.Errorf("%s (-want +got):\n%s", service, d)
		}
	}

	ids := s.Service(stacks.Ollama).Image.Build.BaseIDs
	if d := cmp.Diff(map[string]string{stacks.OllamaImage: oneDigest}, ids); d != "" {
		t.Errorf("IDs (-want +got):\n%s", d)
	}
}

// TestLockedPlatforms refuses a platform that there is no image for, or none that was loaded.
func TestLockedPlatforms(t *testing.T) {
	for name, c := range map[string]struct {
		image stacks.LockedImage
		want  string
	}{
		"no image": {stacks.LockedImage{Digest: oneDigest, Platforms: []string{"linux/amd64"}},
			"there is no redis:8.2.1-bookworm for linux/arm64: images.lock.yaml has it for linux/amd64"},
		"not loaded": {stacks.LockedImage{IDs: map[string]string{"linux/amd64": oneDigest}},
			"images.lock.yaml has no ID of redis:8.2.1-bookworm for linux/arm64"},
	} {
		c.image.Name, c.image.Tag = "redis", "8.2.1-bookworm"
		_, err := locked(t, []string{"linux/arm64"}, c.image)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

// TestReadLock holds that the file says what it says, and nothing else.
func TestReadLock(t *testing.T) {
	if l, err := stacks.ReadLock(fstest.MapFS{}); err != nil || len(l.Images) != 0 {
		t.Errorf("without a file: %+v, %v", l, err)
	}

	for text, want := range map[string]string{
		"images: [{image: redis}]":                                      `"redis:" is no reference: set image and tag`,
		"images: [{image: redis, tag: '8', digset: x}]":                 "field digset not found",
		"images: [{image: redis, tag: '8', digest: x}]":                 `images.0.digest: "x" must be sha256:`,
		"images: [{image: r, tag: a}, {image: r, tag: a}]":              "images.1: r:a is there twice",
		"images: [{image: r, tag: a, ids: {linux/amd64: x}}]":           `ids: linux/amd64: "x": must be`,
		"images: [{image: r, tag: a, ids: {amd64: " + oneDigest + "}}]": "ids: amd64",
		"images: [{image: r, tag: a, digest: '" + oneDigest + "', ids: {linux/amd64: '" + oneDigest +
			"'}}]": "has a digest and ids",
	} {
		_, err := stacks.ReadLock(fstest.MapFS{stacks.LockFile: {Data: []byte(text)}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// TestShippedLock holds that the file has every upstream image of the base, as Encode writes it.
func TestShippedLock(t *testing.T) {
	lock, err := stacks.ReadLock(os.DirFS(".."))
	if err != nil {
		t.Fatal(err)
	}

	refs := []string{
		stacks.RedisImage, stacks.OllamaImage, stacks.CaddyImage, stacks.CoreDNSImage, stacks.GoImage,
	}
	for _, ref := range refs {
		if _, ok := lock.Find(ref); !ok {
			t.Errorf("%s is not in %s: `codexctl images update`", ref, stacks.LockFile)
		}
	}
	if len(lock.Images) != len(refs) {
		t.Errorf("%s has %d images, the base %d", stacks.LockFile, len(lock.Images), len(refs))
	}

	want, err := lock.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../" + stacks.LockFile)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (-encoded +file):\n%s", stacks.LockFile, d)
	}
}

func TestPlatforms(t *testing.T) {
	both := []string{"linux/amd64", "linux/arm64"}
	for _, c := range []struct {
		target    stacks.Target
		registry  string
		platforms []string
		want, err string
	}{
		{stacks.Docker, "", nil, "linux/amd64", ""},
		{stacks.Docker, "", both[1:], "linux/arm64", ""},
		{stacks.Docker, "", both, "", "codexcontinue:platform: an engine has one platform"},
		{stacks.Kubernetes, "", both, "", "codexcontinue:platform: images for several platforms"},
		{stacks.Kubernetes, "registry.example.com/team", both, "linux/amd64,linux/arm64", ""},
	} {
		settings := withPassword()
		settings.Target, settings.Registry, settings.Platforms = c.target, c.registry, c.platforms
		s, err := stacks.Load("prod", settings, checkout())
		switch {
		case c.err != "":
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%+v: %v", c, err)
			}
		case err != nil || s.Platform() != c.want:
			t.Errorf("%+v: %s, %v", c, s.Platform(), err)
		}
	}
}

// TestRenovate holds that Renovate finds every upstream image where it has to change it.
func TestRenovate(t *testing.T) {
	text, err := os.ReadFile("../renovate.json")
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		CustomManagers []struct {
			ManagerFilePatterns []string
			MatchStrings        []string
		}
	}
	if err := json.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}

	lock, err := stacks.ReadLock(os.DirFS(".."))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{stacks.LockFile, "stacks/base.go", "test/images/build.sh"} {
		content, err := os.ReadFile("../" + file)
		if err != nil {
			t.Fatal(err)
		}

		var found []string
		for _, m := range config.CustomManagers {
			if !slices.ContainsFunc(m.ManagerFilePatterns, func(p string) bool {
				return regexp.MustCompile(strings.Trim(p, "/")).MatchString(file)
			}) {
				continue
			}
			for _, s := range m.MatchStrings {
				rule := regexp.MustCompile(s)
				for _, match := range rule.FindAllStringSubmatch(string(content), -1) {
					found = append(found, match[rule.SubexpIndex("depName")]+":"+
						match[rule.SubexpIndex("currentValue")])
				}
			}
		}

		var want []string
		for _, x := range lock.Images {
			want = append(want, x.Ref())
		}
		slices.Sort(found)
		slices.Sort(want)
		if d := cmp.Diff(want, found); d != "" {
			t.Errorf("%s (-want +found):\n%s", file, d)
		}
	}
}
