package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/mtls"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

// learnUsage is the error for a command line that is none.
const learnUsage = `usage: gate learn list [waiting | accepted]   print what was handed over, as JSON
       gate learn review ID DECISION         decide on one, with a decision as JSON
       gate learn review -                   the same, with the two as a JSON array on
                                             the standard input`

const reviewsPath = "/api/reviews"

// learn reads and reviews what people have handed over, in a gate's container. `--by=NAME` says who
// asks.
func learn(ctx context.Context, args, environ []string, stdout io.Writer) error {
	by, args := flag(args, "--by=")
	cfg, o, err := openOf(ctx, environ)
	if err != nil {
		return err
	}
	defer o.store.Close()

	signer := identity.NewSigner(identity.Gate)
	if err := signer.Publish(ctx, o.store.Publish); err != nil {
		return fmt.Errorf("%s: %w", o.address, err)
	}

	who, err := mtls.Open(cfg.TLS)
	if err != nil {
		return err
	}

	if by == "" {
		by = commands
	}
	token := signer.Sign(identity.Person{Admin: true, By: by}, identity.Backend)
	frontend := hop.New("frontend", cfg.FrontendURL)
	frontend.Secure(who.Client())
	ask := func(method, path string, body, into any) error {
		return frontend.JSON(ctx, method, path, body, into,
			http.Header{"Authorization": {identity.Authorization(token)}})
	}

	switch {
	case len(args) > 0 && len(args) < 3 && args[0] == "list":
		return listReviews(ask, args[1:], stdout)
	case len(args) == 3 && args[0] == "review":
		var d backendapi.Decision
		if err := json.Unmarshal([]byte(args[2]), &d); err != nil {
			return fmt.Errorf("the decision: %w", err)
		}
		return explained(ask(http.MethodPut, reviewsPath+"/"+url.PathEscape(args[1]), d, nil))
	}

	return errors.New(learnUsage)
}

// explained returns the error with what is wrong with each field of a request.
func explained(err error) error {
	var p *problem.Problem
	if !errors.As(err, &p) {
		return err
	}

	for _, e := range p.Errors {
		err = fmt.Errorf("%w; %s %s", err, e.Location, e.Message)
	}
	return err
}

// listReviews prints all that was handed over and is in the state, any if there is none.
func listReviews(
	ask func(method, path string, body, into any) error, state []string, stdout io.Writer,
) error {
	q := url.Values{"limit": {"100"}}
	if len(state) > 0 {
		q.Set("state", state[0])
	}

	all := backendapi.Submissions{Submissions: []backendapi.Submission{}}
	for {
		var page backendapi.Submissions
		if err := ask(http.MethodGet, reviewsPath+"?"+q.Encode(), nil, &page); err != nil {
			return err
		}

		all.Submissions = append(all.Submissions, page.Submissions...)
		if page.Before == "" {
			break
		}
		q.Set("before", page.Before)
	}

	return json.NewEncoder(stdout).Encode(all)
}
