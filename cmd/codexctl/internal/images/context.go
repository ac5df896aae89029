// Package images builds the images of a stack and puts them into clusters that cannot pull them.
package images

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/codexcontinue/codexcontinue/infra/image"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// dockerfileName is the name of the Dockerfile in the tar archive. It is beside what is built from,
// so that it is part of no layer.
const dockerfileName = ".codexctl.Dockerfile"

// tarContext returns the build's context: the Dockerfile, and the files that its .dockerignore lets
// in. Owners, times and the umask are left out, so that every clone of one commit sends the same.
func tarContext(root fs.FS, b stacks.Build) (io.Reader, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	dockerfile, err := fs.ReadFile(root, path.Clean(b.Dockerfile))
	if err != nil {
		return nil, fmt.Errorf("image.build.dockerfile: %w", err)
	}
	if err := addFile(w, dockerfileName, 0o644, dockerfile); err != nil {
		return nil, err
	}

	context, err := fs.Sub(root, path.Clean(b.Context))
	if err != nil {
		return nil, fmt.Errorf("image.build.context: %w", err)
	}

	err = image.WalkContext(root, b, func(name string, mode fs.FileMode) error {
		if mode&fs.ModeSymlink != 0 {
			to, err := fs.ReadLink(context, name)
			if err != nil {
				return err
			}

			return w.WriteHeader(&tar.Header{
				Name:     name,
				Typeflag: tar.TypeSymlink,
				Linkname: to,
				Mode:     0o777,
			})
		}

		data, err := fs.ReadFile(context, name)
		if err != nil {
			return err
		}
		if mode&0o100 != 0 {
			return addFile(w, name, 0o755, data)
		}

		return addFile(w, name, 0o644, data)
	})
	if err != nil {
		return nil, fmt.Errorf("image.build.context: %w", err)
	}

	return &out, w.Close()
}

func addFile(w *tar.Writer, name string, mode int64, data []byte) error {
	if err := w.WriteHeader(&tar.Header{
		Name:     name,
		Mode:     mode,
		Size:     int64(len(data)),
		Typeflag: tar.TypeReg,
	}); err != nil {
		return err
	}

	_, err := w.Write(data)
	return err
}
