package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// BuildError is returned when an image does not build. Log holds the last lines of its steps.
type BuildError struct {
	Ref string
	Err error
	Log []string
}

func (e *BuildError) Error() string {
	return fmt.Sprintf("image %s: does not build: %v", e.Ref, e.Err)
}
func (e *BuildError) Unwrap() error { return e.Err }

// keptLines bounds how many lines of a failing build are kept.
const keptLines = 30

// Build is what an image is built of.
type Build struct {
	// Ref is the reference that the image gets.
	Ref string

	// Platform is the one that it is for, such as linux/amd64.
	Platform string

	// Context is the build's context as a tar archive, Dockerfile the path in it, Target the stage.
	Context            io.Reader
	Dockerfile, Target string
	Args               map[string]string

	// Output is called for each line that the steps print.
	Output func(line string)
}

// BuildImage builds an image with the engine's BuildKit, as the docker provider does. It uses the
// engine's API, as the docker command would need its buildx plugin.
func (e *Engine) BuildImage(ctx context.Context, b Build) error {
	ref := b.Ref
	system, processor, ok := strings.Cut(b.Platform, "/")
	if !ok {
		return fmt.Errorf("image %s: %q is no platform, such as %s", ref, b.Platform,
			stacks.DefaultPlatform)
	}

	args := map[string]*string{}
	for k, v := range b.Args {
		args[k] = &v
	}

	result, err := e.api.ImageBuild(ctx, b.Context, client.ImageBuildOptions{
		Version:    build.BuilderBuildKit,
		Tags:       []string{ref},
		Dockerfile: b.Dockerfile,
		Platforms:  []ocispec.Platform{{OS: system, Architecture: processor}},
		Target:     b.Target,
		BuildArgs:  args,
		Remove:     true,
	})
	if err != nil {
		return &BuildError{Ref: ref, Err: err}
	}
	defer result.Body.Close()

	var log []string
	err = buildLog(result.Body, func(line string) {
		log = append(log, line)
		log = log[max(0, len(log)-keptLines):]
		b.Output(line)
	})
	if err != nil {
		return &BuildError{Ref: ref, Err: err, Log: log}
	}

	return nil
}

// buildLog reads the engine's response to its end. It calls output for each line of the build's
// steps, and returns the error that the build failed with.
func buildLog(body io.Reader, output func(line string)) error {
	for messages := json.NewDecoder(body); ; {
		var m struct {
			ID    string          `json:"id"`
			Aux   json.RawMessage `json:"aux"`
			Error string          `json:"error"`
		}

		err := messages.Decode(&m)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the engine's answer: %w", err)
		}

		if m.ID == "moby.buildkit.trace" {
			var status []byte
			if err := json.Unmarshal(m.Aux, &status); err != nil {
				return fmt.Errorf("the engine's answer: %w", err)
			}

			// StatusResponse.logs = 3, VertexLog.msg = 4 in BuildKit's
			// api/services/control/control.proto
			for _, entry := range fields(status, 3) {
				for _, text := range fields(entry, 4) {
					for line := range strings.Lines(string(text)) {
						output(strings.TrimRight(line, "\r\n"))
					}
				}
			}
		}

		if m.Error != "" {
			return errors.New(m.Error)
		}
	}
}

// fields returns the values of one length-delimited field of a Protocol Buffers message, or nil if
// it is no such message.
func fields(message []byte, number protowire.Number) [][]byte {
	var out [][]byte
	for len(message) > 0 {
		n, kind, size := protowire.ConsumeTag(message)
		if size < 0 {
			return nil
		}

		message = message[size:]
		if size = protowire.ConsumeFieldValue(n, kind, message); size < 0 {
			return nil
		}

		if n == number && kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(message)
			out = append(out, value)
		}

		message = message[size:]
	}

	return out
}

// Image is an image on the engine.
type Image struct {
	// ID is what the engine calls it.
	ID string

	// Digest is the one by which it was pulled under the name that was asked for; empty if it was
	// built or loaded here.
	Digest string

	// Platform is the one that it is for, such as linux/amd64.
	Platform string
}

// Image returns the image that the engine has under the reference, or nil.
func (e *Engine) Image(ctx context.Context, ref string) (*Image, error) {
	x, err := e.api.ImageInspect(ctx, ref)
	if cerrdefs.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("engine: image %s: %w", ref, err)
	}

	out := &Image{ID: x.ID, Platform: x.Os + "/" + x.Architecture}
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", ref, err)
	}
	for _, full := range x.RepoDigests {
		d, err := reference.ParseNormalizedNamed(full)
		if c, ok := d.(reference.Canonical); ok && err == nil && d.Name() == named.Name() {
			out.Digest = c.Digest().String()
		}
	}
	return out, nil
}

// TagImage gives an image of the engine another name.
func (e *Engine) TagImage(ctx context.Context, ref, as string) error {
	_, err := e.api.ImageTag(ctx, client.ImageTagOptions{Source: ref, Target: as})
	if err != nil {
		return fmt.Errorf("engine: image %s: %w", as, err)
	}
	return nil
}

// UsedImages returns the IDs of the images of which the engine has containers, of whatever stack and
// whether they run or not.
func (e *Engine) UsedImages(ctx context.Context) (map[string]bool, error) {
	list, err := e.api.ContainerList(ctx, client.ContainerListOptions{All: true})
	if err != nil {
		return nil, fmt.Errorf("engine: list containers: %w", err)
	}

	used := map[string]bool{}
	for _, c := range list.Items {
		used[c.ImageID] = true
	}
	return used, nil
}

// RemoveImage takes the name from an image, and removes it if it has no other. The engine refuses to
// remove one of which it has a container.
func (e *Engine) RemoveImage(ctx context.Context, ref string) error {
	_, err := e.api.ImageRemove(ctx, ref, client.ImageRemoveOptions{PruneChildren: true})
	if err != nil && !cerrdefs.IsNotFound(err) {
		return fmt.Errorf("engine: image %s: %w", ref, err)
	}
	return nil
}

// PullImage pulls an image from its registry.
func (e *Engine) PullImage(ctx context.Context, ref string) error {
	r, err := e.api.ImagePull(ctx, ref, client.ImagePullOptions{})
	if err == nil {
		err = r.Wait(ctx)
	}

	if err != nil {
		return fmt.Errorf("image %s: cannot be pulled: %w: load it with `docker load`, or make "+
			"an equivalent with `make images`",
			ref, err)
	}

	return nil
}

// SaveImages writes the images as one archive, as `docker save` does.
func (e *Engine) SaveImages(ctx context.Context, refs []string, to io.Writer) error {
	r, err := e.api.ImageSave(ctx, refs)
	if err != nil {
		return fmt.Errorf("engine: save %s: %w", strings.Join(refs, ", "), err)
	}
	defer r.Close()

	if _, err := io.Copy(to, r); err != nil {
		return fmt.Errorf("engine: save %s: %w", strings.Join(refs, ", "), err)
	}

	return nil
}

// LoadImages loads the images of an archive as SaveImages writes it.
func (e *Engine) LoadImages(ctx context.Context, archive io.Reader) error {
	r, err := e.api.ImageLoad(ctx, archive, client.ImageLoadWithQuiet(true))
	if err != nil {
		return fmt.Errorf("engine: load images: %w", err)
	}
	defer r.Close()

	if err := buildLog(r, func(string) {}); err != nil {
		return fmt.Errorf("engine: load images: %w", err)
	}

	return nil
}
