package web

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/learning"
)

// noVerdict is the verdict by which a person takes another one back.
const noVerdict = "none"

// reasonChoice is a reason as the form shows it.
type reasonChoice struct{ Value, Words string }

var reasonChoices = []reasonChoice{
	{"", "I would rather not say"},
	{"helpful", "It helped"},
	{"wrong", "It is wrong"},
	{"incomplete", "Something is missing"},
	{"unclear", "It is hard to understand"},
	{"unsafe", "It may do harm"},
	{"other", "Something else"},
}

// reasonWords returns how the form calls a reason, or "" for none.
func reasonWords(value string) string {
	at := slices.IndexFunc(reasonChoices, func(c reasonChoice) bool { return c.Value == value })
	if value == "" || at < 0 {
		return ""
	}
	return reasonChoices[at].Words
}

// ratePage is the form that hands an answer over for review.
type ratePage struct {
	ID, AnswerID     string
	Question, Answer string
	Form             backendapi.Submit
	Reasons          []reasonChoice
	Alert            string

	// Days is how long it is kept.
	Days int

	// Sent is what the person has handed over of the answer already, or nil.
	Sent *backendapi.Submission
}

// rate stores a verdict, or takes it back. Without scripts the page to say why comes next.
func (a *App) rate(w http.ResponseWriter, r *http.Request) {
	if !a.cfg.Ratings {
		a.notFound(w, r)
		return
	}

	id, answer, verdict := r.PathValue("id"), r.PathValue("answer"), r.PostFormValue("verdict")
	to, err := ratePath(id, answer), error(nil)
	switch verdict {
	case backendapi.VerdictUp, backendapi.VerdictDown:
		err = a.backend.rate(r.Context(), caller(r), id, answer, verdict)
	case noVerdict:
		to = "/c/" + url.PathEscape(id)
		err = a.backend.unrate(r.Context(), caller(r), id, answer)
	default:
		a.fail(w, r, http.StatusUnprocessableEntity, "Say whether the answer is good or bad.")
		return
	}

	a.act(w, r, err, to)
}

func ratePath(id, answer string) string {
	return "/c/" + url.PathEscape(id) + "/rate/" + url.PathEscape(answer)
}

// ratingForm shows the form that hands an answer over.
func (a *App) ratingForm(w http.ResponseWriter, r *http.Request) {
	a.showRating(w, r, http.StatusOK, nil, "")
}

// showRating shows the form, with what was typed unless form is nil.
func (a *App) showRating(
	w http.ResponseWriter, r *http.Request, status int, form *backendapi.Submit, alert string,
) {
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	p := ratePage{
		ID: r.PathValue("id"), AnswerID: r.PathValue("answer"), Reasons: reasonChoices,
		Alert: alert, Days: int(backendapi.SubmissionKept.Hours() / 24),
	}
	there, err := a.findAnswer(ctx, caller(r), &p)
	if err != nil {
		a.failed(w, r, err)
		return
	}
	if !there || !a.cfg.Ratings {
		a.notFound(w, r)
		return
	}

	list, err := a.backend.submissions(ctx, caller(r))
	if err != nil {
		a.failed(w, r, err)
		return
	}

	for _, v := range list.Submissions {
		if v.ID == p.AnswerID {
			p.Sent = &v
			p.Form = backendapi.Submit{Verdict: v.Verdict, Reason: v.Reason, Note: v.Note,
				Correction: v.Correction}
		}
	}

	if form != nil {
		p.Form = *form
	}
	a.render(w, r, status, "rate",
		a.page(r, "Your opinion of an answer", sidebar{Hidden: true, Current: p.ID}, p))
}

// findAnswer fills in the answer with its question and the person's verdict, and reports whether it
// is there.
func (a *App) findAnswer(ctx context.Context, me string, p *ratePage) (bool, error) {
	var after backendapi.Message // the one behind the message that is looked at
	for before := ""; ; {
		d, err := a.backend.conversation(ctx, me, p.ID, before)
		if err != nil {
			return false, err
		}

		p.Form.Verdict = d.Ratings[p.AnswerID]
		for _, m := range slices.Backward(d.Messages) {
			if m.Role == "user" && after.GenerationID == p.AnswerID {
				p.Question, p.Answer = m.Content, after.Content
				return after.State == backendapi.MessageComplete, nil
			}
			after = m
		}

		if before = d.Earlier; before == "" {
			return false, nil
		}
	}
}

// submit hands an answer over.
func (a *App) submit(w http.ResponseWriter, r *http.Request) {
	form := backendapi.Submit{
		Verdict: r.PostFormValue("verdict"), Reason: r.PostFormValue("reason"),
		Note:       strings.Join(strings.Fields(r.PostFormValue("note")), " "),
		Correction: formText(r, "correction"),
		Consent:    r.PostFormValue("consent") == "yes",
	}

	alert := ""
	switch {
	case form.Verdict != backendapi.VerdictUp && form.Verdict != backendapi.VerdictDown:
		alert = "Say whether the answer is good or bad."
	case utf8.RuneCountInString(form.Note) > backendapi.MaxNote:
		alert = "The line is too long: leave 300 characters, or write more into the field below it."
	case len(form.Correction) > backendapi.MaxCorrection:
		alert = "What the answer should have been is too long: leave 16 KB at most."
	case !form.Consent:
		alert = "Nothing is handed over unless you agree that it is kept and read."
	}
	if alert != "" {
		a.showRating(w, r, http.StatusUnprocessableEntity, &form, alert)
		return
	}

	id, answer := r.PathValue("id"), r.PathValue("answer")
	err := a.backend.submit(r.Context(), caller(r), id, answer, form)
	if p := asProblem(err); err != nil && p.Status < http.StatusInternalServerError &&
		!isNotFound(err) {
		a.showRating(w, r, p.Status, &form, p.Error())
		return
	}

	a.act(w, r, err, ratePath(id, answer))
}

// formText returns the text of a form's field, which has line breaks as CRLF.
func formText(r *http.Request, name string) string {
	return strings.TrimSpace(strings.ReplaceAll(r.PostFormValue(name), "\r\n", "\n"))
}

// submissionView is a submission as a page shows it.
type submissionView struct{ backendapi.Submission }

// Handed returns when it was handed over, to the fraction of a second.
func (v submissionView) Handed() string { return v.SubmittedAt.Format(time.RFC3339Nano) }

// Line returns the beginning of the question.
func (v submissionView) Line() string { return firstLine(v.Question) }

// Words tells what has become of it.
func (v submissionView) Words() string {
	if v.State == backendapi.SubmissionAccepted {
		return "accepted"
	}
	return "waits for a review"
}

// ReasonWords returns the reason as the form shows it.
func (v submissionView) ReasonWords() string { return reasonWords(v.Reason) }

// Version returns the beginning of what Ollama calls the model's content.
func (v submissionView) Version() string { return v.Digest[:min(len(v.Digest), 12)] }

// Draft is what a reviewer begins with: what was accepted, or what the person wrote.
func (v submissionView) Draft() backendapi.Review {
	if v.Review != nil {
		return *v.Review
	}

	r := backendapi.Review{Question: v.Question, Answer: v.Answer}
	if v.Correction != "" {
		r.Answer = v.Correction
	}
	return r
}

// Must and MustNot return texts in a line each.
func (v submissionView) Must() string    { return strings.Join(v.Draft().Must, "\n") }
func (v submissionView) MustNot() string { return strings.Join(v.Draft().MustNot, "\n") }

func views(list []backendapi.Submission) []submissionView {
	out := make([]submissionView, len(list))
	for i, v := range list {
		out[i] = submissionView{v}
	}
	return out
}

// submissions lists what a person has handed over.
func (a *App) submissions(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	list, err := a.backend.submissions(ctx, caller(r))
	if err != nil {
		a.failed(w, r, err)
		return
	}

	a.render(w, r, http.StatusOK, "submissions", a.page(r, "What you have handed over",
		sidebar{Hidden: true}, struct{ Submissions []submissionView }{views(list.Submissions)}))
}

// withdraw takes back what a person has handed over.
func (a *App) withdraw(w http.ResponseWriter, r *http.Request) {
	a.act(w, r, a.backend.withdraw(r.Context(), caller(r), r.PathValue("answer")), "/submissions")
}

// reviewPage shows an administrator what people have handed over.
type reviewPage struct {
	State, Alert, More string
	Submissions        []submissionView
}

func (a *App) review(w http.ResponseWriter, r *http.Request) {
	a.showReview(w, r, http.StatusOK, "", nil)
}

// showReview shows a page of submissions. One with the id of typed is as somebody typed it.
func (a *App) showReview(
	w http.ResponseWriter, r *http.Request, status int, alert string, typed *backendapi.Submission,
) {
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	p := reviewPage{State: backendapi.SubmissionWaiting, Alert: alert}
	if r.URL.Query().Get("state") == backendapi.SubmissionAccepted {
		p.State = backendapi.SubmissionAccepted
	}

	list, err := a.backend.reviews(ctx, caller(r), p.State, r.URL.Query().Get("before"))
	if err != nil {
		a.failed(w, r, err)
		return
	}

	for i, v := range list.Submissions {
		if typed != nil && v.ID == typed.ID {
			list.Submissions[i].Review = typed.Review
		}
	}

	p.Submissions = views(list.Submissions)
	if list.Before != "" {
		p.More = "/review?" + url.Values{"state": {p.State}, "before": {list.Before}}.Encode()
	}
	a.render(w, r, status, "review", a.page(r, "Review", sidebar{Hidden: true}, p))
}

// decide accepts or rejects a submission.
func (a *App) decide(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("answer")
	at, err := time.Parse(time.RFC3339Nano, r.PostFormValue("submitted_at"))
	if err != nil {
		a.fail(w, r, http.StatusUnprocessableEntity, "The form lacks when it was handed over.")
		return
	}

	d := backendapi.Decision{SubmittedAt: at}
	switch r.PostFormValue("act") {
	case "accept":
		d.Accept, d.Review = true, &backendapi.Review{
			Question: formText(r, "question"), Answer: formText(r, "answer"),
			Must: lines(formText(r, "must")), MustNot: lines(formText(r, "must_not")),
		}
	case "reject":
	default:
		a.fail(w, r, http.StatusUnprocessableEntity, "Say whether it is accepted or rejected.")
		return
	}

	alert, status := refusedText(d.Review), http.StatusUnprocessableEntity
	if d.Accept && (d.Review.Question == "" || d.Review.Answer == "") {
		alert = "What is accepted needs a question and an answer."
	}

	if alert == "" {
		if err := a.backend.decide(r.Context(), caller(r), id, d); err != nil {
			p := asProblem(err)
			if p.Status == http.StatusForbidden || p.Status >= http.StatusInternalServerError {
				a.failed(w, r, err)
				return
			}

			alert, status = reviewAlert(p), p.Status
		}
	}

	if alert == "" {
		http.Redirect(w, r, "/review", http.StatusSeeOther)
		return
	}

	a.showReview(w, r, status, alert, &backendapi.Submission{ID: id, Review: d.Review})
}

// refusedText returns what is wrong with a review whose texts may not become part of a model, ""
// with any other one and with none.
func refusedText(r *backendapi.Review) string {
	if r == nil {
		return ""
	}
	if err := learning.CheckText(r.Question); err != nil {
		return "The question " + err.Error() + "."
	}
	if err := learning.CheckText(r.Answer); err != nil {
		return "The answer " + err.Error() + "."
	}
	return ""
}

// reviewAlert tells a reviewer why a decision was not taken.
func reviewAlert(p *problem.Problem) string {
	switch p.Status {
	case http.StatusNotFound:
		return "Who handed it over has taken it back, or it has expired."
	case http.StatusConflict:
		return "Who handed it over has changed it since. This is what it is now."
	}
	return p.Error()
}

// lines returns the lines of a text that are not empty.
func lines(text string) (out []string) {
	for line := range strings.SplitSeq(text, "\n") {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	return out
}
