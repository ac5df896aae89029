package oidc

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Bounds of what is taken from a token: OpenID's of a subject, in bytes, and one of a name that is
// shown, in characters.
const maxSubject, maxName = 255, 80

// errOutside reports a person who is in no group that is let in.
var errOutside = errors.New("the person is in no group that is let in")

// claims are what is read of a token beside what every token has.
type claims struct {
	AuthorizedParty string `json:"azp"`
	Name            string `json:"name"`
	Username        string `json:"preferred_username"`
	SID             string `json:"sid"`
}

// called returns what pages call the person.
func (c claims) called() string {
	for _, name := range []string{c.Name, c.Username} {
		name = strings.TrimSpace(strings.Map(func(r rune) rune {
			if unicode.IsPrint(r) {
				return r
			}
			return -1
		}, name))
		if name != "" {
			return string([]rune(name)[:min(len([]rune(name)), maxName)])
		}
	}

	return ""
}

// groups returns the groups of the person that the settings name, or an error if the person is not
// let in.
func (c *Client) groups(all map[string]json.RawMessage) ([]string, error) {
	inside := slices.Concat(c.cfg.AllowedGroups, c.cfg.AdminGroups)
	named := slices.Concat(inside, c.cfg.OtherGroups)
	switch {
	case len(inside) == 0 && !c.cfg.Everybody:
		return nil, errOutside
	case len(named) == 0:
		return nil, nil
	}

	has, err := names(all, c.cfg.GroupsClaim)
	if err != nil {
		return nil, err
	}

	groups := slices.DeleteFunc(has, func(g string) bool { return !slices.Contains(named, g) })
	slices.Sort(groups)
	groups = slices.Compact(groups)
	if !c.cfg.Everybody && !overlap(groups, inside) {
		return nil, errOutside
	}

	return groups, nil
}

// names returns the names that a claim holds: one, or a list.
func names(all map[string]json.RawMessage, claim string) ([]string, error) {
	// Entra names a place to ask instead of more than 200 groups.
	var elsewhere map[string]string
	_ = json.Unmarshal(all["_claim_names"], &elsewhere) // absent as a rule
	if _, ok := elsewhere[claim]; ok {
		return nil, fmt.Errorf("the person is in more groups than the provider puts into a token: "+
			"let it put those of the application alone into the claim %s", claim)
	}

	text, ok := all[claim]
	if !ok || string(text) == "null" {
		return nil, nil
	}

	var one string
	if json.Unmarshal(text, &one) == nil {
		return []string{one}, nil
	}

	var list []string
	if json.Unmarshal(text, &list) != nil {
		return nil, fmt.Errorf("the claim %s is neither a name nor a list of names", claim)
	}

	return list, nil
}

// overlap reports whether a list has one of the names.
func overlap(list, names []string) bool {
	return slices.ContainsFunc(list, func(x string) bool { return slices.Contains(names, x) })
}
