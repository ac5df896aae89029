package api

import (
	"archive/zip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/danielgtaylor/huma/v2"
)

type ownedInput struct{ Owned }

type exportAllInput struct {
	Owned
	Format string `query:"format" enum:"markdown,json" default:"markdown" doc:"The file's format"`
}

// allRoutes adds the routes that are about all conversations of an owner.
func (a *API) allRoutes() {
	const tag = "conversations"
	op := operation("exportConversations", "GET /api/conversations/export", tag,
		"Read all conversations with all of their messages, as a file")
	op.Description = "In Markdown each conversation is a file of a ZIP archive. The JSON is an " +
		"object, of which conversations has each conversation with its messages. One that begins " +
		"meanwhile is not in it."
	all := a.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[backendapi.All](), true, "")
	op.Responses = map[string]*huma.Response{"200": {
		Description: "The file",
		Content: map[string]*huma.MediaType{
			"application/zip":  {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
			"application/json": {Schema: all},
		},
	}}
	register(a, op, a.exportAll)

	op = operation("deleteConversations", "DELETE /api/conversations", tag,
		"Delete all conversations and whatever else is stored of their owner")
	op.Description = "Answers that are being written are stopped. For three minutes nothing new " +
		"is stored. A deletion that fails half-way may be sent again, and goes on."
	op.DefaultStatus = http.StatusNoContent
	register(a, op, a.removeAll)

	op = operation("takeConversations", "POST /api/conversations/take", tag,
		"Take all conversations of another owner")
	op.Description = "The other owner's consent is a token for this service. Each conversation " +
		"changes its owner at once. Answers that are being written are stopped, and for three " +
		"minutes nothing new is stored for the other owner. What fails half-way may be sent " +
		"again, and goes on."
	op.MaxBodyBytes, op.DefaultStatus = maxBody, http.StatusNoContent
	op.Errors = []int{http.StatusForbidden, http.StatusConflict}
	register(a, op, a.take)
}

func (a *API) exportAll(ctx context.Context, in *exportAllInput) (*huma.StreamResponse, error) {
	act, err := a.Audit.Begin(ctx, a.record(ctx, auditlog.Export, in.owner(), "", ""))
	if err != nil {
		return nil, err
	}

	write, media, suffix := a.writeArchive, "application/zip", ".zip"
	if in.Format == "json" {
		write, media, suffix = a.writeAll, "application/json", ".json"
	}

	file := func(ctx context.Context, w io.Writer) error { return write(ctx, w, in.owner()) }
	return a.download(act, "conversations"+suffix, media, file), nil
}

// writeArchive writes a ZIP archive with a file of Markdown for each of the owner's conversations.
func (a *API) writeArchive(ctx context.Context, w io.Writer, owner string) error {
	archive := zip.NewWriter(w)
	for c, err := range a.Store.All(ctx, owner) {
		if err != nil {
			return err
		}

		// The end of the id is random: titles may be the same.
		name := c.CreatedAt.UTC().Format("2006-01-02") + "-" + fileName(c.Public().Title) + "-" +
			c.ID[len(c.ID)-8:] + ".md"
		file, err := archive.CreateHeader(&zip.FileHeader{
			Name: name, Method: zip.Deflate, Modified: c.UpdatedAt,
		})
		if err != nil {
			return err
		}

		if err := a.writeMarkdown(ctx, file, c); err != nil {
			return err
		}
	}

	return archive.Close()
}

// writeAll writes a backendapi.All of the owner's conversations.
func (a *API) writeAll(ctx context.Context, w io.Writer, owner string) error {
	if _, err := io.WriteString(w, `{"conversations":[`); err != nil {
		return err
	}

	separator := "\n"
	for c, err := range a.Store.All(ctx, owner) {
		if err == nil {
			_, err = io.WriteString(w, separator)
		}
		if err == nil {
			err = a.writeJSON(ctx, w, c)
		}
		if err != nil {
			return err
		}

		separator = ","
	}

	list, err := a.Store.Submissions(ctx, owner)
	if err != nil {
		return err
	}

	b, err := json.Marshal(list)
	if err != nil {
		return err
	}

	_, err = fmt.Fprintf(w, "],\n\"submissions\":%s}\n", b)
	return err
}

func (a *API) removeAll(ctx context.Context, in *ownedInput) (*struct{}, error) {
	act := a.Audit.BeginAnyway(ctx, a.record(ctx, auditlog.Delete, in.owner(), "", ""))
	stopped, err := a.Store.Erase(ctx, in.owner())
	act.End(result(err))
	for _, generation := range stopped {
		a.Jobs.Cancel(generation)
	}
	return nil, err
}

type takeInput struct {
	Owned
	Body backendapi.Take
}

func (a *API) take(ctx context.Context, in *takeInput) (*struct{}, error) {
	from, err := a.Owner(ctx, in.Body.From)
	switch {
	case errors.Is(err, identity.ErrInvalid):
		return nil, problem.New(http.StatusForbidden, "The other owner's token does not count here.")
	case err != nil:
		return nil, err
	case from == "":
		return nil, problem.New(http.StatusForbidden, "The other owner's token names nobody.")
	}

	stopped, err := a.Store.Move(ctx, from, in.owner())
	for _, generation := range stopped {
		a.Jobs.Cancel(generation)
	}
	return nil, err
}
