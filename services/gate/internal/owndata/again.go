package owndata

import (
	"context"
	"net/http"
	"net/url"

	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
)

// What the audit's names of conversations, and of what was handed over, are of.
const (
	aConversation = "conversation"
	anAnswer      = "answer"
)

// DeleteAgain deletes the conversations of the person that records call so, of those that there
// are. It is for what was deleted before, and has come back with a backup. by is who asks.
func (d *Data) DeleteAgain(
	ctx context.Context, owner, by string, objects map[string]bool,
) (deleted int, err error) {
	who := identity.Person{ID: owner, By: by}
	var found []string
	for q := (url.Values{"limit": {"100"}}); ; {
		var page backendapi.ConversationPage
		err := d.frontend.JSON(ctx, http.MethodGet, AllPath+"?"+q.Encode(), nil, &page, d.as(who))
		if err != nil {
			return 0, err
		}

		for _, c := range page.Conversations {
			if objects[d.sessions.Audit.Name(aConversation, c.ID)] {
				found = append(found, c.ID)
			}
		}
		if page.Next == "" {
			break
		}
		q.Set("cursor", page.Next)
	}

	for _, id := range found {
		resp, err := d.ask(ctx, http.MethodDelete, AllPath+"/"+url.PathEscape(id), who, nil)
		if err != nil {
			return deleted, err
		}
		_ = resp.Body.Close()
		deleted++
	}
	return deleted, nil
}

// WithdrawAgain takes back what the person has handed over and records call so, all of it if that
// is empty: it was taken back before, and has come back with a backup. by is who asks.
func (d *Data) WithdrawAgain(ctx context.Context, owner, by, object string) error {
	if object == "" {
		return d.Withdraw(by)(ctx, owner)
	}

	who := identity.Person{ID: owner, By: by}
	var list backendapi.Submissions
	err := d.frontend.JSON(ctx, http.MethodGet, SubmissionsPath, nil, &list, d.as(who))
	if err != nil {
		return err
	}

	for _, s := range list.Submissions {
		if d.sessions.Audit.Name(anAnswer, s.ID) != object {
			continue
		}
		resp, err := d.ask(ctx, http.MethodDelete, SubmissionsPath+"/"+url.PathEscape(s.ID), who, nil)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}
	return nil
}
