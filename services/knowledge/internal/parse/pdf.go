package parse

import (
	"errors"
	"fmt"
	"io"
	"time"

	library "github.com/klippa-app/go-pdfium"
	pdferrors "github.com/klippa-app/go-pdfium/errors"
	"github.com/klippa-app/go-pdfium/requests"
	"github.com/klippa-app/go-pdfium/webassembly"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// maxPages bounds the pages of a PDF.
const maxPages = 5_000

// pdfium returns PDFium as WebAssembly: it reaches its own memory and nothing else. The cache is a
// directory in which it may be compiled already; without one it is compiled now.
func pdfium(cache string) (library.Pool, error) {
	config := wazero.NewRuntimeConfig().WithCoreFeatures(
		api.CoreFeaturesV2 | experimental.CoreFeaturesExceptionHandling)
	if cache != "" {
		c, err := wazero.NewCompilationCacheWithDir(cache)
		if err != nil {
			return nil, fmt.Errorf("PDFium: %w", err)
		}
		config = config.WithCompilationCache(c)
	}

	pool, err := webassembly.Init(webassembly.Config{
		MinIdle: 1, MaxIdle: 1, MaxTotal: 1,
		RuntimeConfig: config,
		FSConfig:      wazero.NewFSConfig(), // no files; the default is all of them
		Stdout:        io.Discard,
		Stderr:        io.Discard,
	})
	if err != nil {
		return nil, fmt.Errorf("PDFium: %w", err)
	}
	return pool, nil
}

// compilePDFium fills the cache.
func compilePDFium(cache string) error {
	pool, err := pdfium(cache)
	if err != nil {
		return err
	}
	return pool.Close()
}

// pdf reads the text of a PDF's pages.
func (d *Document) pdf(b []byte, cache string) error {
	pool, err := pdfium(cache)
	if err != nil {
		return err
	}
	defer pool.Close()

	reader, err := pool.GetInstance(time.Minute)
	if err != nil {
		return fmt.Errorf("PDFium: %w", err)
	}

	doc, err := reader.OpenDocument(&requests.OpenDocument{File: &b})
	switch {
	case errors.Is(err, pdferrors.ErrPassword), errors.Is(err, pdferrors.ErrSecurity):
		return broken("The document is encrypted. Save it without a password.")
	case err != nil:
		return broken("The document is broken: it is no whole PDF.")
	}

	count, err := reader.FPDF_GetPageCount(&requests.FPDF_GetPageCount{Document: doc.Document})
	if err != nil {
		return broken("The document is broken: it is no whole PDF.")
	}
	if count.PageCount > maxPages {
		return broken("The document has more than %d pages.", maxPages)
	}

	tags := []string{"Title"}
	meta, err := reader.GetMetaData(
		&requests.GetMetaData{Document: doc.Document, Tags: &tags})
	if err == nil && len(meta.Tags) == 1 {
		d.Title = shorten(oneLine(meta.Tags[0].Value), maxTitle)
	}

	for i := range count.PageCount {
		page := requests.Page{
			ByIndex: &requests.PageByIndex{Document: doc.Document, Index: i},
		}
		text, err := reader.GetPageText(&requests.GetPageText{Page: page})
		if err != nil {
			d.warn("Page %d is broken.", i+1)
			continue
		}

		before := len(d.Blocks)
		if err := d.add(Block{Kind: Paragraph, Page: i + 1, Text: text.Text}); err != nil {
			return err
		}
		if len(d.Blocks) == before {
			d.warn("Page %d has no text. It may be a picture.", i+1)
		}
	}

	if len(d.Blocks) == 0 {
		return broken("The document has no text: its pages may be pictures.")
	}
	return nil
}
