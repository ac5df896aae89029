package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/codexcontinue/codexcontinue/services/frontend/domain"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/logging"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
)

// pageTimeout bounds how long a page waits for the backend before it is shown without its data.
const pageTimeout = 10 * time.Second

// chatPage is a conversation, or the start of one.
type chatPage struct {
	ID, Title, Draft string

	// Key is the idempotency key of the message that the form sends.
	Key      string
	Messages []message
	Model    modelState
	Domain   domain.Texts

	// Kept says how long conversations are kept; it is empty if that is for ever.
	Kept string

	// Before is the cursor of the page of messages that is shown; empty for the last ones. Earlier
	// is the address of the page before it, if there is one.
	Before, Earlier string

	// Alert tells what went wrong with the message in Draft.
	Alert string

	// Degraded is set if data is missing because the backend could not be asked.
	Degraded bool

	// Running is the generation that is going on.
	Running string
}

func (a *App) home(w http.ResponseWriter, r *http.Request) {
	a.chatPage(w, r, http.StatusOK, chatPage{})
}

func (a *App) conversation(w http.ResponseWriter, r *http.Request) {
	a.chatPage(w, r, http.StatusOK, chatPage{
		ID:     r.PathValue("id"),
		Before: r.URL.Query().Get("before"),
	})
}

// chatPage requests all that the page needs from the backend at once and renders what it got.
func (a *App) chatPage(w http.ResponseWriter, r *http.Request, status int, p chatPage) {
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	me, now, cursor := caller(r), time.Now().In(zoneOf(r)), r.URL.Query().Get("cursor")
	var (
		wg                            sync.WaitGroup
		list                          backendapi.ConversationPage
		models                        mlapi.Models
		detail                        backendapi.ConversationDetail
		listErr, modelsErr, detailErr error
	)

	wg.Go(func() { list, listErr = a.backend.conversations(ctx, me, cursor) })
	wg.Go(func() { models, modelsErr = a.backend.models(ctx, me) })
	if p.ID != "" {
		wg.Go(func() { detail, detailErr = a.backend.conversation(ctx, me, p.ID, p.Before) })
	}

	wg.Wait()
	for _, err := range []error{listErr, modelsErr, detailErr} {
		if err != nil && !isNotFound(err) {
			a.log.WarnContext(r.Context(), "page", "error", err)
		}
	}

	if isNotFound(detailErr) {
		a.notFound(w, r)
		return
	}

	path := "/"
	if p.ID != "" {
		path = "/c/" + p.ID
	}

	s := newSidebar(list, p.ID, path, cursor, now)
	s.Failed = listErr != nil
	p.Degraded = listErr != nil || modelsErr != nil || detailErr != nil
	p.Domain, p.Title = a.domain, detail.Title
	p.Kept = kept(a.cfg.ConversationTTL)
	p.Messages = a.messages(detail, now.Location())
	if detail.Earlier != "" {
		p.Earlier = path + "?" + url.Values{"before": {detail.Earlier}}.Encode()
	}
	if p.Key == "" {
		p.Key = newKey()
	}

	p.Model = newModelState(models, modelsErr, detail.Model)
	if detailErr != nil {
		p.Title = "Conversation"
		p.Alert = "The conversation cannot be shown right now: " + asProblem(detailErr).Error()
		status = http.StatusBadGateway
	}

	for _, m := range p.Messages {
		if m.Streaming() {
			p.Running = m.GenerationID
		}
	}

	page := a.page(r, p.Title, s, p)
	if p.Running != "" || p.Model.Poll() > 0 {
		page.Refresh = reload(r, path)
	}
	if p.Degraded && status == http.StatusOK {
		w.Header().Set("Retry-After", "3")
	}

	a.render(w, r, status, "chat", page)
}

// reload returns the page's Refresh at the path. To load it again by itself, the page goes to an
// address that is no use of the person's session, once: from then on it keeps its place.
func reload(r *http.Request, path string) string {
	const seconds = "3"
	q := url.Values{}
	if r.Method == http.MethodGet {
		q = r.URL.Query()
	}
	if q.Has(wire.ReloadQuery) {
		return seconds
	}

	q.Set(wire.ReloadQuery, "")
	return seconds + "; url=" + path + "?" + q.Encode() + "#latest"
}

// started is the response to the page's script for a message that was sent.
type started struct {
	ConversationID string `json:"conversation_id"`
	GenerationID   string `json:"generation_id"`
	URL            string `json:"url"`

	// HTML is the question, if the request has one, and the empty answer.
	HTML string `json:"html"`
}

// chat sends a message, behind those of its conversation or in the place of the last ones. A
// browser without JavaScript is redirected to the conversation, which shows the answer as it grows.
func (a *App) chat(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		a.fail(w, r, http.StatusRequestEntityTooLarge,
			"The message is too long, or the form is damaged.")
		return
	}

	req := backendapi.ChatRequest{
		ConversationID: r.PostForm.Get("conversation_id"), Model: r.PostForm.Get("model"),
		// Forms send line breaks as CRLF.
		Message: strings.TrimSpace(strings.ReplaceAll(r.PostForm.Get("message"), "\r\n", "\n")),
	}

	again := false // the question is asked as it is stored
	if id := r.PathValue("id"); id != "" {
		req.ConversationID = id
		req.Replaces = &backendapi.Replaces{
			From: r.PostForm.Get("from"), To: r.PostForm.Get("to"),
		}
		again = !r.PostForm.Has("message")
	}

	me := caller(r)
	switch {
	case req.Message == "" && !again:
		a.refuse(w, r, req, problem.New(http.StatusUnprocessableEntity, "Write a message first."))
		return
	case len(req.Message) > backendapi.MaxMessage || !utf8.ValidString(req.Message):
		a.refuse(w, r, req,
			problem.New(http.StatusUnprocessableEntity,
				"The message is too long: %d of at most %d bytes. Shorten it, or send it in parts.",
				len(req.Message), backendapi.MaxMessage))
		return
	}

	g, err := a.backend.start(r.Context(), me, messageKey(r, req), req)
	if err != nil {
		a.log.WarnContext(r.Context(), "chat", "error", err)
		a.refuse(w, r, req, rephrase(asProblem(err)))
		return
	}

	to := "/c/" + url.PathEscape(g.ConversationID)
	if !wantsJSON(r) {
		http.Redirect(w, r, to+"#latest", http.StatusSeeOther)
		return
	}

	now := time.Now().In(zoneOf(r))
	question := message{
		Message: backendapi.Message{
			Role:    "user",
			Content: req.Message,
			State:   backendapi.MessageComplete,
		},
		HTML:           a.md.Question(req.Message),
		ConversationID: g.ConversationID,
		Answer:         g.ID,
		Time:           now,
	}

	answer := message{
		Message: backendapi.Message{
			Role:         "assistant",
			State:        backendapi.MessageStreaming,
			GenerationID: g.ID,
			Model:        req.Model,
		},
		ConversationID: g.ConversationID,
		Asked:          req.Message,
		Time:           now,
	}

	fresh := []message{question, answer}
	if again {
		fresh = fresh[1:]
	}

	html, err := a.execute("parts", "messages", fresh)
	if err != nil {
		a.log.ErrorContext(r.Context(), "template", "error", err)
		a.fail(w, r, http.StatusInternalServerError,
			"The message was sent, but cannot be shown. Reload the page.")
		return
	}

	wire.WriteJSON(w, http.StatusOK, started{
		ConversationID: g.ConversationID,
		GenerationID:   g.ID,
		URL:            to,
		HTML:           string(html),
	})
}

// rephrase returns the problem with a detail for someone whose message was not accepted.
func rephrase(original *problem.Problem) *problem.Problem {
	p := *original
	p.Detail = original.Error()
	if isUnknown(original, "body.replaces") {
		return problem.Typed(problem.TypeStarting, http.StatusServiceUnavailable,
			"The chat service is being updated, and cannot ask again yet. Try again in a moment.")
	}

	switch p.Status {
	case http.StatusTooManyRequests:
		if p.Type != "" && p.Type != mlapi.TypeQueueFull {
			break // it says of what the person has too much
		}
		p.Detail = "Too many people are waiting for an answer right now. Try again in a moment."
		if before := p.QueuePosition - 1; before > 0 {
			p.Detail = fmt.Sprintf("Too many people are waiting for an answer right now (%d "+
				"before you). Try again in a moment.",
				before)
		}
	case http.StatusConflict:
		if p.Type == backendapi.TypeChanged {
			p.Detail = "This conversation has changed since you looked at it, perhaps in another " +
				"tab. Reload it to see what it holds now."
			break
		}
		p.Detail = "This conversation is still being answered. Wait for the answer, or stop it, " +
			"and send again."
	case http.StatusNotFound:
		p.Detail = "This conversation no longer exists. Start a new chat."
	}

	return &p
}

// refuse answers a message that was not accepted, with the page as it was, the text
// kept, and the reason.
func (a *App) refuse(
	w http.ResponseWriter, r *http.Request, req backendapi.ChatRequest, why *problem.Problem,
) {
	status := why.Status
	if status < 400 || status > 599 {
		status = http.StatusBadGateway
	}

	if wantsJSON(r) {
		wire.WriteJSON(w, status, scriptError{
			Error:     why.Error(),
			Resend:    resendable(why),
			RequestID: logging.RequestID(r.Context()),
		})
		return
	}

	if status == http.StatusNotFound {
		req.ConversationID = ""
	}

	if req.Replaces != nil && req.ConversationID != "" {
		a.refuseReplacing(w, r, status, req, why)
		return
	}

	// The key stays the same, as the message may have been stored nevertheless.
	a.chatPage(w, r, status, chatPage{
		ID:    req.ConversationID,
		Draft: req.Message,
		Alert: why.Error(),
		Key:   r.PostForm.Get("key"),
	})
}

// stop stops an answer.
func (a *App) stop(w http.ResponseWriter, r *http.Request) {
	a.act(w, r, a.backend.stop(r.Context(), caller(r), r.PathValue("id")),
		localPath(r.PostFormValue("back")))
}

func (a *App) edit(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	d, err := a.backend.conversation(ctx, caller(r), r.PathValue("id"), "")
	if err != nil {
		a.failed(w, r, err)
		return
	}

	a.render(w, r, http.StatusOK, "edit",
		a.page(r, "Edit conversation", sidebar{Hidden: true}, d.Conversation))
}

func (a *App) rename(w http.ResponseWriter, r *http.Request) {
	title := strings.Join(strings.Fields(r.PostFormValue("title")), " ")
	if n := utf8.RuneCountInString(title); n == 0 || n > backendapi.MaxTitle {
		a.fail(w, r, http.StatusUnprocessableEntity,
			fmt.Sprintf("A title has 1 to %d characters.", backendapi.MaxTitle))
		return
	}

	id := r.PathValue("id")
	a.act(w, r, a.backend.rename(r.Context(), caller(r), id, title), "/c/"+url.PathEscape(id))
}

func (a *App) remove(w http.ResponseWriter, r *http.Request) {
	err := a.backend.remove(r.Context(), caller(r), r.PathValue("id"))
	if isNotFound(err) {
		err = nil // deleted already, in another tab
	}
	a.act(w, r, err, "/")
}

// act answers a form after its work is done or has failed.
func (a *App) act(w http.ResponseWriter, r *http.Request, err error, to string) {
	switch {
	case err != nil:
		a.failed(w, r, err)
	case wantsJSON(r):
		w.WriteHeader(http.StatusNoContent)
	default:
		http.Redirect(w, r, to, http.StatusSeeOther)
	}
}

// failed answers with the backend's error.
func (a *App) failed(w http.ResponseWriter, r *http.Request, err error) {
	if isNotFound(err) {
		a.notFound(w, r)
		return
	}
	a.log.WarnContext(r.Context(), "backend", "error", err)
	p := asProblem(err)
	a.fail(w, r, max(p.Status, 400), p.Error())
}

func (a *App) sidebarFragment(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	current := r.URL.Query().Get("current")
	list, err := a.backend.conversations(ctx, caller(r), "")
	path := "/"
	if current != "" {
		path = "/c/" + current
	}

	s := newSidebar(list, current, path, "", time.Now().In(zoneOf(r)))
	s.Failed = err != nil
	a.fragment(w, r, "conversations", s)
}

func (a *App) modelFragment(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	models, err := a.backend.models(ctx, caller(r))
	a.fragment(w, r, "model", newModelState(models, err, r.URL.Query().Get("selected")))
}

// scriptError is an error for the page's script.
type scriptError struct {
	Error string `json:"error"`

	// Resend reports whether the script may send the same message again: no backend could be asked.
	Resend    bool   `json:"resend,omitempty"`
	RequestID string `json:"request_id"`
}

func writeError(w http.ResponseWriter, r *http.Request, status int, detail string) {
	wire.WriteJSON(w, status, scriptError{Error: detail, RequestID: logging.RequestID(r.Context())})
}
