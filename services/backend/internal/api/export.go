package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"unicode"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/generation"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/audit"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/danielgtaylor/huma/v2"
)

type exportInput struct {
	Owned
	ID     string `path:"id" doc:"The conversation"`
	Format string `query:"format" enum:"markdown,json" default:"markdown" doc:"The file's format"`
}

// markdownType is the media type of Markdown (RFC 7763).
const markdownType = "text/markdown; charset=utf-8"

func (a *API) exportRoute() {
	op := operation("exportConversation", "GET /api/conversations/{id}/export", "conversations",
		"Read a conversation with all of its messages, as a file")
	op.Description = "In Markdown each message is as it was written, below a heading that says " +
		"whose it is and when it was written. The JSON is that of a conversation with its messages."
	op.Errors = []int{http.StatusNotFound}
	text := &huma.Schema{Type: huma.TypeString}
	detail := a.huma.OpenAPI().Components.Schemas.Schema(
		reflect.TypeFor[backendapi.ConversationDetail](), true, "")
	op.Responses = map[string]*huma.Response{"200": {
		Description: "The file",
		Content: map[string]*huma.MediaType{
			"text/markdown":    {Schema: text},
			"application/json": {Schema: detail},
		},
	}}
	register(a, op, a.export)
}

func (a *API) export(ctx context.Context, in *exportInput) (*huma.StreamResponse, error) {
	act, err := a.Audit.Begin(ctx,
		a.record(ctx, auditlog.Export, in.owner(), aConversation, in.ID))
	if err != nil {
		return nil, err
	}

	c, err := a.Store.Get(ctx, in.owner(), in.ID)
	if err != nil {
		act.End(result(err))
		return nil, err
	}

	write, media, suffix := a.writeMarkdown, markdownType, ".md"
	if in.Format == "json" {
		write, media, suffix = a.writeJSON, "application/json", ".json"
	}

	file := func(ctx context.Context, w io.Writer) error {
		if err := write(ctx, w, c); err != nil {
			return fmt.Errorf("conversation %s: %w", c.ID, err)
		}
		return nil
	}
	return a.download(act, fileName(c.Public().Title)+suffix, media, file), nil
}

// download returns the response with a file of the name, which write writes. It ends the act.
func (a *API) download(
	act *audit.Act, name, media string, write func(context.Context, io.Writer) error,
) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		hc.SetHeader("Content-Type", media)
		hc.SetHeader("Content-Disposition",
			mime.FormatMediaType("attachment", map[string]string{"filename": name}))
		err := write(hc.Context(), hc.BodyWriter())
		act.End(result(err))
		if err != nil {
			a.Log.WarnContext(hc.Context(), "an export was cut", "error", err)
			panic(http.ErrAbortHandler) // half a file must not look like all of it
		}
	}}
}

// maxFileName is the greatest length of a file's name in characters, without its suffix.
const maxFileName = 60

// fileName returns a name for a file that every system takes: letters, digits and dashes.
func fileName(title string) string {
	words := strings.FieldsFunc(title, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
	name := []rune(strings.Join(words, "-"))
	if len(name) == 0 {
		return "conversation"
	}
	return strings.TrimRight(string(name[:min(len(name), maxFileName)]), "-")
}

// exportTime is how a Markdown file writes a time.
const exportTime = "2006-01-02 15:04 UTC"

func (a *API) writeMarkdown(ctx context.Context, w io.Writer, c store.Conversation) error {
	if _, err := fmt.Fprintf(w, "# %s\n", c.Public().Title); err != nil {
		return err
	}

	for m, err := range a.Store.Messages(ctx, c) {
		if err != nil {
			return err
		}

		who := "You"
		if m.Role != "user" {
			who = m.Model
		}

		state := ""
		if m.State != backendapi.MessageComplete {
			state = " · " + m.State
		}

		text := m.Content
		if m.Error != nil {
			text += "\n\n> " + m.Error.Error()
		}

		_, err = fmt.Fprintf(w, "\n## %s · %s%s\n\n%s\n%s", who, m.CreatedAt.UTC().Format(exportTime),
			state, text+generation.CloseCode(text), sourceList(m.Sources))
		if err != nil {
			return err
		}
	}

	return nil
}

// sourceList returns the sources of an answer as a list in Markdown, or "".
func sourceList(s *backendapi.Sources) string {
	if s == nil || len(s.Sources) == 0 {
		return ""
	}

	var b strings.Builder
	b.WriteString("\nSources:\n\n")
	for _, x := range s.Sources {
		words := []string{x.Title}
		if x.Heading != "" {
			words = append(words, x.Heading)
		}
		if x.Page > 0 {
			words = append(words, fmt.Sprintf("page %d", x.Page))
		}

		line := strings.Join(words, ", ") + " (" + x.Collection + "/" + x.File + ")"
		fmt.Fprintf(&b, "- [%d] %s\n", x.N, escapeMarkdown(line))
	}

	return b.String()
}

// marks are the characters by which Markdown marks up a line of text.
var marks = regexp.MustCompile("[\\\\`*_\\[\\]<>&!|~#]")

// escapeMarkdown returns a text of a document as one line that means itself in Markdown.
func escapeMarkdown(text string) string {
	return marks.ReplaceAllString(strings.Join(strings.Fields(text), " "), `\$0`)
}

func (a *API) writeJSON(ctx context.Context, w io.Writer, c store.Conversation) error {
	head, err := json.Marshal(c.Public())
	if err != nil {
		return err
	}
	head = bytes.TrimSuffix(head, []byte("}"))
	if _, err := fmt.Fprintf(w, "%s,\n\"messages\":[", head); err != nil {
		return err
	}

	separator := "\n"
	for m, err := range a.Store.Messages(ctx, c) {
		if err != nil {
			return err
		}

		b, err := json.Marshal(m)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "%s%s", separator, b); err != nil {
			return err
		}

		separator = ",\n"
	}

	ratings, err := a.Store.Ratings(ctx, c.Owner, c.ID)
	if err != nil {
		return err
	}

	end := []byte("\n]")
	if len(ratings) > 0 {
		b, err := json.Marshal(ratings)
		if err != nil {
			return err
		}
		end = append(append(end, ",\n\"ratings\":"...), b...)
	}

	_, err = w.Write(append(end, "}\n"...))
	return err
}
