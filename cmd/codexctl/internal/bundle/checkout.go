package bundle

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Folder is the folder of a loaded checkout that says what came with it.
const Folder = ".bundle"

// filesName is the file that lists the files of the checkout that a bundle wrote.
const filesName = Folder + "/files"

// settings are the files that belong to who runs the stacks: they are never overwritten.
var settings = regexp.MustCompile(`^Pulumi\.[^/]+\.yaml$`)

// own are the folders of a loaded checkout that are none of the checkout's.
var own = []string{Folder, ".git", ".state", "bin"}

// Pack writes the files of the checkout at root as a tar archive. Owners and times are left out.
func Pack(root string, files []string, to io.Writer) error {
	w := tar.NewWriter(to)
	for _, name := range files {
		if err := packFile(w, root, name); err != nil {
			return err
		}
	}
	return w.Close()
}

func packFile(w *tar.Writer, root, name string) error {
	from := filepath.Join(root, filepath.FromSlash(name))
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}

	h := &tar.Header{Name: name, ModTime: time.Unix(0, 0), Mode: 0o644}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = os.Readlink(from); err != nil {
			return err
		}
		return w.WriteHeader(h)
	case !info.Mode().IsRegular():
		return nil // a submodule's folder
	}

	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()

	h.Typeflag, h.Size = tar.TypeReg, info.Size()
	if info.Mode()&0o100 != 0 {
		h.Mode = 0o755
	}
	if err := w.WriteHeader(h); err != nil {
		return err
	}

	_, err = io.CopyN(w, f, info.Size())
	return err
}

// Unpack makes the folder hold the files of the archive that Pack wrote, and no longer those of an
// earlier one. Settings of stacks stay as they are; it returns the names of those that differ. read
// calls use with a reader of the archive, each time from its beginning.
func Unpack(
	read func(use func(from io.Reader) error) error, dir string,
) (kept []string, err error) {
	var names []string
	err = read(func(from io.Reader) error {
		return eachFile(from, func(h *tar.Header, _ io.Reader) error {
			names = append(names, h.Name)
			return nil
		})
	})
	if err != nil {
		return nil, err
	}

	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}

	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()

	old, err := root.ReadFile(filesName)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := root.MkdirAll(Folder, 0o755); err != nil {
		return nil, err
	}

	// Until all is done the list has both, so that what an interrupt leaves is removed later.
	list := strings.Join(names, "\n") + "\n"
	if err := root.WriteFile(filesName, []byte(string(old)+list), 0o644); err != nil {
		return nil, err
	}
	if err := removeOld(root, strings.Split(string(old), "\n"), names); err != nil {
		return nil, err
	}

	err = read(func(from io.Reader) error {
		return eachFile(from, func(h *tar.Header, content io.Reader) error {
			differs, err := unpackFile(root, h, content)
			if err != nil {
				return fmt.Errorf("%s: %w", h.Name, err)
			}
			if differs {
				kept = append(kept, h.Name)
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}

	return kept, root.WriteFile(filesName, []byte(list), 0o644)
}

// eachFile calls do with each entry of the archive, whose name is one of a checkout's file.
func eachFile(from io.Reader, do func(h *tar.Header, content io.Reader) error) error {
	for entries := tar.NewReader(from); ; {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}

		if err := nameError(h.Name); err != nil {
			return err
		}
		if err := do(h, entries); err != nil {
			return err
		}
	}
}

// nameError returns an error for a name that is none of a checkout's file.
func nameError(name string) error {
	first, _, _ := strings.Cut(name, "/")
	if !fs.ValidPath(name) || name == "." || strings.ContainsAny(name, "\\\n") {
		return fmt.Errorf("%q is no name of a file", name)
	}
	for _, dir := range own {
		if first == dir {
			return fmt.Errorf("%q is no file of a checkout", name)
		}
	}

	return nil
}

// unpackFile writes a file. differs is set if one of settings is there and was left as it is.
func unpackFile(root *os.Root, h *tar.Header, from io.Reader) (differs bool, err error) {
	if err := makeDir(root, path.Dir(h.Name)); err != nil {
		return false, err
	}

	switch h.Typeflag {
	case tar.TypeSymlink:
		to := path.Join(path.Dir(h.Name), h.Linkname)
		if path.IsAbs(h.Linkname) || !filepath.IsLocal(filepath.FromSlash(to)) {
			return false, fmt.Errorf("is a link that leaves the checkout, to %q", h.Linkname)
		}
		if err := root.Remove(h.Name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		return false, root.Symlink(h.Linkname, h.Name)
	case tar.TypeReg:
	default:
		return false, errors.New("is neither a file nor a link")
	}

	if settings.MatchString(h.Name) {
		if old, err := root.ReadFile(h.Name); err == nil {
			text, err := io.ReadAll(from)
			return !bytes.Equal(old, text), err
		}
	}

	return false, replace(root, h.Name, h.FileInfo().Mode().Perm(), from)
}

// makeDir makes a folder that everybody may read, whatever the umask is: containers run as others.
func makeDir(root *os.Root, dir string) error {
	if _, err := root.Stat(dir); err == nil {
		return nil
	}
	if err := makeDir(root, path.Dir(dir)); err != nil {
		return err
	}

	return errors.Join(root.Mkdir(dir, 0o755), root.Chmod(dir, 0o755))
}

// partOf returns the name of a file that is not whole yet.
func partOf(name string) string { return path.Join(path.Dir(name), ".part-"+path.Base(name)) }

// replace writes a file that has its name only once it is whole.
func replace(root *os.Root, name string, mode fs.FileMode, from io.Reader) error {
	part := partOf(name)
	f, err := root.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}

	_, err = io.Copy(f, from)
	if err := errors.Join(err, f.Chmod(mode), f.Close()); err != nil {
		return errors.Join(err, root.Remove(part))
	}

	return root.Rename(part, name)
}

// removeOld removes the files that an earlier bundle wrote and this one does not have, and the
// folders that are empty then.
func removeOld(root *os.Root, old, now []string) error {
	stay := map[string]bool{}
	for _, name := range now {
		stay[name] = true
	}

	for _, name := range old {
		if stay[name] || nameError(name) != nil || settings.MatchString(name) {
			continue
		}
		if info, err := root.Lstat(name); err == nil && info.IsDir() {
			continue // one has taken its place
		}
		for _, file := range []string{name, partOf(name)} { // an interrupted load may leave a part
			if _, err := root.Lstat(file); err != nil {
				continue // it is gone
			}
			if err := root.Remove(file); err != nil {
				return err
			}
		}

		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if info, err := root.Lstat(dir); err != nil || !info.IsDir() ||
				root.Remove(dir) != nil {
				break // it holds other files
			}
		}
	}

	return nil
}

// writeWhole writes a file that has its name only once it is whole.
func writeWhole(file string, mode fs.FileMode, from io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}

	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // after the rename there is nothing of that name
	defer f.Close()

	if _, err := io.Copy(f, from); err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(mode), f.Close()); err != nil {
		return err
	}

	return os.Rename(f.Name(), file)
}
