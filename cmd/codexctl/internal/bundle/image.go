package bundle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"path"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// The parts that are an OCI image layout.
const (
	layoutDir  = "images"
	layoutFile = layoutDir + "/oci-layout"
	indexFile  = layoutDir + "/index.json"
)

// The annotation and labels that the OCI gives names.
const (
	refAnnotation = "org.opencontainers.image.ref.name"
	sourceLabel   = "org.opencontainers.image.source"
	licenceLabel  = "org.opencontainers.image.licenses"
)

// blobName returns the name of the part with the content of that digest.
func blobName(h v1.Hash) string { return path.Join(layoutDir, "blobs", h.Algorithm, h.Hex) }

// AddImages adds the images of the references as an OCI image layout. archive is the path of the
// file that `docker save` made of them. A layer that several have is added once.
func (d *Draft) AddImages(
	ctx context.Context, archive string, refs []string, progress Progress,
) error {
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	layers := map[v1.Hash]v1.Descriptor{} // by the digest of what is uncompressed
	for _, ref := range refs {
		progress("packing "+ref, 0, 0)
		at, err := d.addImage(ctx, archive, ref, layers)
		if err != nil {
			return fmt.Errorf("image %s: %w", ref, err)
		}
		at.Annotations = map[string]string{refAnnotation: ref}
		index.Manifests = append(index.Manifests, at)
	}

	text, err := json.Marshal(index)
	if err != nil {
		return err
	}

	d.addText(indexFile, text, "the list of the images", ours)
	d.addText(layoutFile, []byte(`{"imageLayoutVersion":"1.0.0"}`), "the OCI image layout", ours)
	return nil
}

// ours is the licence of what the project itself writes.
const ours = "Apache-2.0"

// addText adds a part that is short, and returns its descriptor.
func (d *Draft) addText(name string, text []byte, source, licence string) v1.Descriptor {
	digest := sha256.Sum256(text)
	p := Part{
		Name: name, Size: int64(len(text)), SHA256: hex.EncodeToString(digest[:]),
		Source: source, Licence: licence,
	}
	d.Add(p, func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(text)), nil
	})
	return v1.Descriptor{
		Size: p.Size, Digest: v1.Hash{Algorithm: "sha256", Hex: p.SHA256},
	}
}

// addBlob is addText for a blob of the layout.
func (d *Draft) addBlob(text []byte, kind types.MediaType, from Part) v1.Descriptor {
	digest := sha256.Sum256(text)
	at := v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(digest[:])}
	out := d.addText(blobName(at), text, from.Source, from.Licence)
	out.MediaType = kind
	return out
}

// addImage adds an image with the layers that are not known, and returns where it is.
func (d *Draft) addImage(
	ctx context.Context, archive, ref string, known map[v1.Hash]v1.Descriptor,
) (v1.Descriptor, error) {
	tag, err := name.NewTag(ref)
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("a bundle has images that have a tag: %w", err)
	}

	img, err := tarball.ImageFromPath(archive, &tag)
	if err != nil {
		return v1.Descriptor{}, err
	}

	config, err := img.RawConfigFile()
	if err != nil {
		return v1.Descriptor{}, err
	}

	from := describe(ref, config)
	layers, err := img.Layers()
	if err != nil {
		return v1.Descriptor{}, err
	}

	manifest := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1}
	for _, l := range layers {
		id, err := l.DiffID()
		if err != nil {
			return v1.Descriptor{}, err
		}

		at, ok := known[id]
		if !ok {
			if at, err = d.addLayer(ctx, l, from); err != nil {
				return v1.Descriptor{}, err
			}
			known[id] = at
		}
		manifest.Layers = append(manifest.Layers, at)
	}

	manifest.Config = d.addBlob(config, types.OCIConfigJSON, from)
	text, err := json.Marshal(manifest)
	if err != nil {
		return v1.Descriptor{}, err
	}

	return d.addBlob(text, types.OCIManifestSchema1, from), nil
}

// describe returns where an image comes from, and its licence, as its labels say.
func describe(ref string, config []byte) Part {
	var c struct {
		Config struct{ Labels map[string]string }
	}
	_ = json.Unmarshal(config, &c) // whoever runs the image finds out
	p := Part{Source: "image " + ref, Licence: c.Config.Labels[licenceLabel]}
	if from := c.Config.Labels[sourceLabel]; from != "" {
		p.Source += ", " + from
	}
	if p.Licence == "" {
		p.Licence = "not stated by the image"
	}
	return p
}

func (d *Draft) addLayer(ctx context.Context, l v1.Layer, p Part) (v1.Descriptor, error) {
	from, err := l.Uncompressed()
	if err != nil {
		return v1.Descriptor{}, err
	}
	defer from.Close()

	file, size, digest, err := d.compress(ctx, func(w io.Writer) error {
		_, err := io.Copy(w, from)
		return err
	})
	if err != nil {
		return v1.Descriptor{}, err
	}

	at := v1.Hash{Algorithm: "sha256", Hex: digest}
	p.Name, p.Size, p.SHA256 = blobName(at), size, digest
	d.Add(p, fileOpener(file))
	return v1.Descriptor{MediaType: types.OCILayer, Size: size, Digest: at}, nil
}

// Image is an image of a bundle.
type Image struct {
	// Ref is the reference under which the stack names it.
	Ref string
	v1.Image
}

// Images returns the images.
func (r *Reader) Images() ([]Image, error) {
	text, err := r.text(indexFile)
	if err != nil {
		return nil, err
	}

	var index v1.IndexManifest
	if err := json.Unmarshal(text, &index); err != nil {
		return nil, fmt.Errorf("bundle: %s: %w", indexFile, err)
	}

	var out []Image
	for _, at := range index.Manifests {
		l := &layout{r: r}
		if l.manifest, err = r.text(blobName(at.Digest)); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(l.manifest, &l.parsed); err != nil {
			return nil, fmt.Errorf("bundle: %s: %w", blobName(at.Digest), err)
		}

		img, err := partial.CompressedToImage(l)
		if err != nil {
			return nil, err
		}
		out = append(out, Image{at.Annotations[refAnnotation], img})
	}

	return out, nil
}

// SaveImages writes the images as one archive, as `docker save` does, which engines and containerd
// of any version load.
func SaveImages(list []Image, to io.Writer) error {
	images := map[name.Reference]v1.Image{}
	for _, x := range list {
		tag, err := name.NewTag(x.Ref)
		if err != nil {
			return fmt.Errorf("image %s: %w", x.Ref, err)
		}
		images[tag] = x.Image
	}

	return tarball.MultiRefWrite(images, to)
}

// text returns the content of a part that is short.
func (r *Reader) text(name string) (text []byte, err error) {
	err = r.Read(name, func(from io.Reader) error {
		text, err = io.ReadAll(from)
		return err
	})
	return text, err
}

// layout is an image of the layout.
type layout struct {
	r        *Reader
	manifest []byte
	parsed   v1.Manifest
}

// MediaType implements partial.CompressedImageCore.
func (l *layout) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// RawManifest implements partial.CompressedImageCore.
func (l *layout) RawManifest() ([]byte, error) { return l.manifest, nil }

// RawConfigFile implements partial.CompressedImageCore.
func (l *layout) RawConfigFile() ([]byte, error) {
	return l.r.text(blobName(l.parsed.Config.Digest))
}

// LayerByDigest implements partial.CompressedImageCore.
func (l *layout) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	for _, at := range append(l.parsed.Layers, l.parsed.Config) {
		if at.Digest == h {
			return &layer{l.r, at}, nil
		}
	}
	return nil, fmt.Errorf("bundle: the image has no layer %s", h)
}

// layer is a layer of the layout.
type layer struct {
	r  *Reader
	at v1.Descriptor
}

func (l *layer) Digest() (v1.Hash, error)            { return l.at.Digest, nil }
func (l *layer) Size() (int64, error)                { return l.at.Size, nil }
func (l *layer) MediaType() (types.MediaType, error) { return l.at.MediaType, nil }
func (l *layer) Compressed() (io.ReadCloser, error)  { return l.r.Open(blobName(l.at.Digest)) }

// Push pushes an image to its registry, with the credentials of `docker login`. What the registry
// has is not sent again.
func Push(ctx context.Context, ref string, img v1.Image) error {
	to, err := name.ParseReference(ref)
	if err != nil {
		return fmt.Errorf("image %s: %w", ref, err)
	}

	err = remote.Write(to, img, remote.WithContext(ctx),
		remote.WithAuthFromKeychain(authn.DefaultKeychain))
	if err != nil {
		return fmt.Errorf("image %s: cannot be pushed: %w", ref, err)
	}

	return nil
}
