package web

import (
	"fmt"
	"html/template"
	"net/url"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

// sidebar is the list of conversations.
type sidebar struct {
	// Hidden leaves out the list, on pages that must not need the backend.
	Hidden  bool
	Failed  bool
	Current string

	// Query is what the page searches for.
	Query  string
	Groups []group

	// More and Newest are the addresses of the next and the first page of the list, or empty.
	More, Newest string
}

type group struct {
	Label string
	Items []backendapi.Conversation
}

// newSidebar groups the conversations, newest first, by the day of their last message in
// the browser's time zone.
func newSidebar(
	p backendapi.ConversationPage, current, path, cursor string, now time.Time,
) sidebar {
	s := sidebar{Current: current}
	for _, c := range p.Conversations {
		label := dayLabel(c.UpdatedAt.In(now.Location()), now)
		if n := len(s.Groups); n == 0 || s.Groups[n-1].Label != label {
			s.Groups = append(s.Groups, group{Label: label})
		}
		g := &s.Groups[len(s.Groups)-1]
		g.Items = append(g.Items, c)
	}

	if p.Next != "" {
		s.More = path + "?cursor=" + url.QueryEscape(p.Next)
	}
	if cursor != "" {
		s.Newest = path
	}

	return s
}

// dayLabel returns a name for the day of t at the time now, which has the same location.
func dayLabel(t, now time.Time) string {
	midnight := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, now.Location())
	switch {
	case !t.Before(midnight):
		return "Today"
	case !t.Before(midnight.AddDate(0, 0, -1)):
		return "Yesterday"
	case !t.Before(midnight.AddDate(0, 0, -7)):
		return "Previous 7 days"
	case t.Year() == now.Year():
		return t.Format("January")
	default:
		return t.Format("January 2006")
	}
}

// message is one message as the page shows it.
type message struct {
	backendapi.Message
	HTML template.HTML

	// Asked is the question of the answer, which can be asked again if it failed.
	Asked, ConversationID string

	// Rates reports whether the answer can be rated, and Verdict is what the person said of it.
	Rates   bool
	Verdict string

	// Refs are the sources as the page names them.
	Refs []sourceRef

	// Answer is the id of the question's answer, by which it can be asked in other words.
	Answer string
	Time   time.Time
}

// Streaming, Stopped and Failed report the state of an answer.
func (m message) Streaming() bool { return m.State == backendapi.MessageStreaming }
func (m message) Stopped() bool   { return m.State == backendapi.MessageStopped }
func (m message) Failed() bool    { return m.State == backendapi.MessageFailed }

// Key returns a new idempotency key for the form that asks the answer's question again, which is
// another message.
func (m message) Key() string { return newKey() }

// Thinks reports whether the text of the answer has not begun, so that there is only
// the model's reasoning.
func (m message) Thinks() bool { return m.Streaming() && m.Content == "" }

// LeftOutWords tells how much of the conversation the model did not get, or is empty
// if it got everything.
func (m message) LeftOutWords() string { return leftOutWords(m.LeftOut) }

func leftOutWords(n int) string {
	switch {
	case n <= 0:
		return ""
	case n == 1:
		return "The assistant no longer sees the first message of this conversation."
	}

	return fmt.Sprintf("The assistant no longer sees the first %d messages of this conversation.",
		n)
}

// Reason tells a person in one sentence why an answer failed.
func (m message) Reason() string { return reason(m.Error) }

func reason(p *problem.Problem) string {
	if p == nil || p.Error() == "" {
		return "The answer could not be completed."
	}
	return p.Error()
}

func (a *App) messages(d backendapi.ConversationDetail, loc *time.Location) []message {
	out := make([]message, len(d.Messages))
	md := a.md.Page()
	asked := ""
	for i, m := range d.Messages {
		v := message{Message: m, ConversationID: d.ID, Time: m.CreatedAt.In(loc)}
		switch {
		case m.Role == "user":
			asked, v.HTML = m.Content, md.Question(m.Content)
			if i+1 < len(d.Messages) {
				v.Answer = d.Messages[i+1].GenerationID
			}
		case m.State == backendapi.MessageStreaming:
			v.Asked, v.HTML = asked, md.Citing(citations(m.Sources, d.ID)).Begun(m.Content)
		default:
			cites := md.Citing(citations(m.Sources, d.ID))
			v.Asked, v.HTML = asked, cites.Answer(m.Content)
			v.Refs = sourceRefs(m.Sources, d.ID, cites.Cited(m.Content))
			v.Rates = a.cfg.Ratings && m.State == backendapi.MessageComplete
			v.Verdict = d.Ratings[m.GenerationID]
		}
		out[i] = v
	}

	return out
}

// modelState is the state of the models for the composer.
type modelState struct {
	Models   []mlapi.ModelInfo
	Selected string
	Build    mlapi.Build

	// Problem tells why the models are not known.
	Problem string
}

// Usable reports whether a message can be sent.
func (m modelState) Usable() bool { return m.Problem == "" && (m.Ready() || len(m.Models) > 0) }

// Ready reports whether the stack's own model can be used.
func (m modelState) Ready() bool { return m.Build.State == mlapi.BuildReady }

// Poll returns the number of milliseconds after which the page asks again; 0 means never.
func (m modelState) Poll() int {
	switch {
	case m.Problem != "":
		return 3000
	case !m.Ready():
		return 2000
	}
	return 0
}

// Words tells what is being done to the model.
func (m modelState) Words() string { return buildWords(m.Build) }

func buildWords(b mlapi.Build) string {
	switch b.State {
	case mlapi.BuildPulling:
		return "The base model is being downloaded"
	case mlapi.BuildCreating:
		return "The model is being built"
	case mlapi.BuildTesting:
		return "The model is being tried out"
	case mlapi.BuildReady:
		return "The model is ready"
	case mlapi.BuildFailed:
		return "The model could not be built"
	}

	return "The model is being prepared"
}

func newModelState(m mlapi.Models, err error, selected string) modelState {
	if err != nil {
		return modelState{Problem: asProblem(err).Error()}
	}

	s := modelState{Models: m.Models, Build: m.Build}
	for _, model := range m.Models {
		if model.Name == selected || s.Selected == "" && model.Default {
			s.Selected = model.Name
		}
	}

	return s
}
