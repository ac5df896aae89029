package images

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// In returns the image under the name that it has in the registry, if that is not empty.
func (x Image) In(registry string) Image {
	x.Ref = path.Join(registry, x.Ref)
	return x
}

// Variants returns the image for each of its platforms: the image itself if it has one, or is of an
// earlier release, else one for each, whose tag ends in the processor.
func (x Image) Variants() []Image {
	list := strings.Split(x.Platform, ",")
	if len(list) == 1 || x.Kept {
		return []Image{x}
	}

	var out []Image
	for _, p := range list {
		one := x
		one.Platform, one.Ref = p, x.Ref+"-"+path.Base(p)
		out = append(out, one)
	}
	return out
}

// InRegistry reports whether the registry of the reference has it.
func InRegistry(ctx context.Context, ref string) (bool, error) {
	digest, err := Digest(ctx, ref)
	return digest != "", err
}

// Digest returns the digest that the registry of the reference has for it; empty if it has none.
func Digest(ctx context.Context, ref string) (string, error) {
	r, err := name.ParseReference(ref)
	if err != nil {
		return "", fmt.Errorf("image %s: %w", ref, err)
	}

	found, err := remote.Head(r, options(ctx)...)
	var refused *transport.Error
	switch {
	case err == nil:
		return found.Digest.String(), nil
	case !errors.As(err, &refused):
	case refused.StatusCode == http.StatusNotFound:
		return "", nil
	case refused.StatusCode == http.StatusUnauthorized, refused.StatusCode == http.StatusForbidden:
		return "", fmt.Errorf("image %s: the registry refuses to say whether it is there: %w: log in with "+
			"`docker login %s`", ref, err, r.Context().RegistryStr())
	}
	return "", fmt.Errorf("image %s: the registry cannot be asked: %w", ref, err)
}

// PushIndex pushes the index of images that are in the registry already, one for each platform.
// Whoever pulls ref gets the one for their own.
func PushIndex(ctx context.Context, ref string, variants []Image) error {
	to, err := name.ParseReference(ref)
	if err != nil {
		return fmt.Errorf("image %s: %w", ref, err)
	}

	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, x := range variants {
		from, err := name.ParseReference(x.Ref)
		if err != nil {
			return fmt.Errorf("image %s: %w", x.Ref, err)
		}

		img, err := remote.Image(from, options(ctx)...)
		if err != nil {
			return fmt.Errorf("image %s: %w", x.Ref, err)
		}
		platform, err := platformOf(img)
		if err != nil {
			return fmt.Errorf("image %s: %w", x.Ref, err)
		}
		if platform.String() != x.Platform {
			return fmt.Errorf("image %s: is for %s, not for %s: remove it from the engine and "+
				"the registry, and run the command again", x.Ref, platform, x.Platform)
		}

		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        img,
			Descriptor: v1.Descriptor{Platform: platform},
		})
	}

	if err := remote.WriteIndex(to, index, options(ctx)...); err != nil {
		return fmt.Errorf("image %s: cannot be pushed: %w", ref, err)
	}
	return nil
}

// platformOf returns the platform that an image says it is for.
func platformOf(img v1.Image) (*v1.Platform, error) {
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	// A variant such as v8 of arm64 is what every processor of that name has.
	return &v1.Platform{OS: config.OS, Architecture: config.Architecture}, nil
}

// options are those of every request to a registry: its credentials are those of `docker login`.
func options(ctx context.Context) []remote.Option {
	return []remote.Option{
		remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain),
	}
}
