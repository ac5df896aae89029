package web

import (
	"context"
	"net/http"
	"strings"

	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

// questionPage is the form that asks a question in other words. It shows what goes with it.
type questionPage struct {
	ID, Text, Key, Alert string

	// From is the answer to the question, To the last one of the conversation.
	From, To string

	// Going is the number of messages after the question, and Questions are those among them, each
	// in a line.
	Going     int
	Questions []string
}

// maxQuestions is how many of the questions that go are shown.
const maxQuestions = 20

// question shows a question's form.
func (a *App) question(w http.ResponseWriter, r *http.Request) {
	p := questionPage{ID: r.PathValue("id"), From: r.PathValue("answer")}
	switch there, err := a.lookUp(w, r, &p); {
	case err != nil:
		a.failed(w, r, err)
	case !there:
		a.notFound(w, r)
	default:
		a.renderQuestion(w, r, http.StatusOK, p)
	}
}

func (a *App) renderQuestion(
	w http.ResponseWriter, r *http.Request, status int, p questionPage,
) {
	if p.Key == "" {
		p.Key = newKey()
	}
	a.render(w, r, status, "question",
		a.page(r, "Edit question", sidebar{Hidden: true, Current: p.ID}, p))
}

// lookUp fills in what the conversation has from the question on, and reports whether it is there.
// The text stays if there is one.
func (a *App) lookUp(
	w http.ResponseWriter, r *http.Request, p *questionPage,
) (there bool, err error) {
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	me := caller(r)
	var after []backendapi.Message // the messages behind the one that is looked at, last first
	for before := ""; ; {
		d, err := a.backend.conversation(ctx, me, p.ID, before)
		if err != nil {
			return false, err
		}

		for i := len(d.Messages) - 1; i >= 0; i-- {
			m := d.Messages[i]
			if n := len(after); n > 0 && m.Role == "user" && after[n-1].GenerationID == p.From {
				p.fill(m, after)
				return true, nil
			}
			after = append(after, m)
		}

		if before = d.Earlier; before == "" {
			return false, nil
		}
	}
}

// fill fills in the question and what goes with it, last first.
func (p *questionPage) fill(question backendapi.Message, after []backendapi.Message) {
	if p.Text == "" {
		p.Text = question.Content
	}

	p.To, p.Going = after[0].GenerationID, len(after)
	for i := len(after) - 1; i >= 0 && len(p.Questions) < maxQuestions; i-- {
		if after[i].Role == "user" {
			p.Questions = append(p.Questions, firstLine(after[i].Content))
		}
	}
}

// Unnamed returns the number of questions that go and are not shown.
func (p questionPage) Unnamed() int { return p.Going/2 - len(p.Questions) }

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	if runes := []rune(line); len(runes) > 100 {
		return string(runes[:99]) + "…"
	}
	return line
}

// refuseReplacing answers a message that was not accepted in the place of others: with its form,
// the text kept, or with the page as it was if the question was to be asked as it is, or is gone.
func (a *App) refuseReplacing(
	w http.ResponseWriter, r *http.Request, status int, req backendapi.ChatRequest,
	why *problem.Problem,
) {
	chat := chatPage{ID: req.ConversationID, Draft: req.Message, Alert: why.Error()}
	if !r.PostForm.Has("message") {
		a.chatPage(w, r, status, chat)
		return
	}

	// The key stays the same, as the message may have been stored nevertheless.
	p := questionPage{ID: req.ConversationID, Text: req.Message, Key: r.PostForm.Get("key"),
		From: req.Replaces.From, To: req.Replaces.To, Alert: why.Error()}
	if there, err := a.lookUp(w, r, &p); err == nil && !there {
		a.chatPage(w, r, status, chat)
		return
	}

	a.renderQuestion(w, r, status, p)
}
