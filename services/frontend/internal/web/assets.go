package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
)

//go:embed static templates
var embedded embed.FS

// assets are the scripts, styles and icons. Their path holds the hash of them all, so that
// browsers keep them for ever and a new version has new addresses. Scripts import each other by
// relative names within it.
type assets struct {
	hash  string
	files map[string]asset

	// modules are the scripts that app.js imports.
	modules []string
}

type asset struct {
	contentType string
	plain, gzip []byte
}

func loadAssets() (*assets, error) {
	a := &assets{files: map[string]asset{}}
	sum := sha256.New()
	entries, err := fs.ReadDir(embedded, "static")
	if err != nil {
		return nil, fmt.Errorf("static: %w", err)
	}

	for _, e := range entries {
		b, err := fs.ReadFile(embedded, "static/"+e.Name())
		if err != nil {
			return nil, fmt.Errorf("static: %w", err)
		}

		fmt.Fprintf(sum, "%s %d\n", e.Name(), len(b))
		sum.Write(b)
		var z bytes.Buffer
		zw, _ := gzip.NewWriterLevel(&z, gzip.BestCompression) // the level is valid
		if _, err := zw.Write(b); err != nil {
			return nil, fmt.Errorf("static: %w", err)
		}
		if err := zw.Close(); err != nil {
			return nil, fmt.Errorf("static: %w", err)
		}
		if path.Ext(e.Name()) == ".js" && e.Name() != "app.js" {
			a.modules = append(a.modules, e.Name())
		}

		a.files[e.Name()] = asset{contentType(e.Name()), b, z.Bytes()}
	}

	a.hash = hex.EncodeToString(sum.Sum(nil))[:16]
	return a, nil
}

// contentType returns the media type of a file. It does not depend on the system's
// table, which may differ.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}

	return mime.TypeByExtension(path.Ext(name))
}

// url returns the address of a file. A name that does not exist is a mistake in a template.
func (a *assets) url(name string) (string, error) {
	if _, ok := a.files[name]; !ok {
		return "", fmt.Errorf("there is no static/%s", name)
	}
	return "/static/" + a.hash + "/" + name, nil
}

// ServeHTTP serves a file. While two versions run side by side, a page of one may request files of
// the other. It gets the files there are, which are better than none, but may not keep them.
func (a *assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, ok := a.files[r.PathValue("name")]
	if !ok {
		http.NotFound(w, r)
		return
	}

	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Vary", "Accept-Encoding")
	h.Set("Cache-Control", "no-cache")
	if r.PathValue("hash") == a.hash {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}

	body := f.plain
	if len(f.gzip) < len(f.plain) && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body = f.gzip
	}

	_, _ = w.Write(body) // an error means that the browser is gone
}
