// Package report shows what people have used of the models, which ml counts (see package usage):
// everybody what is their own, and admins what is everybody's.
package report

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/usage"
)

// Names returns the names of people by their ids, of those whom it knows.
type Names = func(ctx context.Context, ids []string) (map[string]string, error)

// Reporter reads what people have used.
type Reporter struct {
	store  *store.Store
	limits contract.Limits
	names  Names
	now    func() time.Time
}

// New returns a reporter of what is in the store. People with these limits use the models. names is
// nil where nobody has one.
func New(st *store.Store, limits contract.Limits, names Names) *Reporter {
	return &Reporter{store: st, limits: limits, names: names, now: time.Now}
}

// Person is what a person has used.
type Person struct {
	ID string `json:"id"`

	// Name is empty if it is not known.
	Name string `json:"name,omitempty"`

	// Today is of the day (UTC), Total of all Days, the newest of which is the first. Days on which
	// nothing was used are not there.
	Today usage.Used  `json:"today"`
	Total usage.Used  `json:"total"`
	Days  []usage.Day `json:"days"`
}

// Of returns what a person has used in so many days, today included.
func (r *Reporter) Of(ctx context.Context, id string, days int) (Person, error) {
	all, err := r.of(ctx, []string{id}, days)
	if err != nil {
		return Person{}, err
	}
	return all[0], nil
}

// All returns everybody who has used something in so many days, those first who have used most
// tokens.
func (r *Reporter) All(ctx context.Context, days int) ([]Person, error) {
	ids, err := r.store.Askers(ctx)
	if err != nil {
		return nil, fmt.Errorf("usage: %w", err)
	}

	all, err := r.of(ctx, ids, days)
	if err != nil {
		return nil, err
	}

	if r.names != nil {
		names, err := r.names(ctx, ids)
		if err != nil {
			return nil, err
		}
		for i := range all {
			all[i].Name = names[all[i].ID]
		}
	}

	all = slices.DeleteFunc(all, func(p Person) bool { return len(p.Days) == 0 })
	slices.SortFunc(all, func(a, b Person) int {
		return cmp.Or(cmp.Compare(b.Total.AllTokens(), a.Total.AllTokens()),
			cmp.Compare(b.Total.Questions, a.Total.Questions), cmp.Compare(a.Name, b.Name),
			cmp.Compare(a.ID, b.ID))
	})

	return all, nil
}

func (r *Reporter) of(ctx context.Context, ids []string, days int) ([]Person, error) {
	hashes, err := r.store.Usage(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("usage: %w", err)
	}

	now := r.now()
	today, oldest := usage.DayOf(now), usage.DayOf(now.AddDate(0, 0, 1-days))
	all := make([]Person, len(ids))
	for i, hash := range hashes {
		used, err := usage.Days(hash)
		if err != nil {
			return nil, err
		}

		p := Person{ID: ids[i], Days: []usage.Day{}}
		for _, d := range used {
			if d.Day < oldest {
				continue
			}
			if d.Day == today {
				p.Today = d.Used
			}

			p.Days = append(p.Days, d)
			p.Total.Add(d.Used)
		}

		all[i] = p
	}

	return all, nil
}
