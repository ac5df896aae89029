package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
)

// MaxWords is how many words of a query are looked for at most.
const MaxWords = 16

// How much of a text is around the first word that was found, in characters.
const (
	excerptBefore = 60
	excerptAfter  = 160
)

// searchBatch is how many conversations are listed at once.
const searchBatch = 50

// Search lists the conversations of the owner in which each word of the query occurs, in whatever
// case, in the title or in a message: up to limit, the last changed first, after the cursor. It
// reads one conversation after the other and stops when the time is over: then the page is partial,
// and its Next goes on. One conversation is always read, to its end.
func (s *Store) Search(
	ctx context.Context, owner, query string, limit int, cursor string, most time.Duration,
) (backendapi.ConversationPage, error) {
	out := backendapi.ConversationPage{Conversations: []backendapi.Conversation{}}
	words := wordsOf(query)
	deadline := time.Now().Add(most)
	for {
		page, err := s.List(ctx, owner, searchBatch, cursor)
		if err != nil {
			return out, err
		}

		for i, c := range page.Conversations {
			if c.Found, err = s.find(ctx, owner, c, words); err != nil {
				return out, err
			}
			if c.Found != nil {
				out.Conversations = append(out.Conversations, c)
			}

			full := len(out.Conversations) == limit
			more := i+1 < len(page.Conversations) || page.Next != ""
			if more && (full || time.Now().After(deadline)) {
				out.Next, out.Partial = position{c.UpdatedAt.UnixMilli(), c.ID}.cursor(), !full
				return out, nil
			}
		}

		if cursor = page.Next; cursor == "" {
			return out, nil
		}
	}
}

// wordsOf returns the words of a query, each once, as fold writes them.
func wordsOf(query string) []string {
	words := strings.Fields(fold(query))
	slices.Sort(words)
	words = slices.Compact(words)
	return words[:min(len(words), MaxWords)]
}

// fold returns the text without differences of case. It has as many characters.
func fold(text string) string { return strings.ToLower(text) }

// find returns where the words are in a conversation, or nil if one of them is not.
func (s *Store) find(
	ctx context.Context, owner string, c backendapi.Conversation, words []string,
) (*backendapi.Found, error) {
	found := &backendapi.Found{Title: mark(c.Title, words)}
	title := fold(c.Title)
	missing := slices.DeleteFunc(slices.Clone(words), func(w string) bool {
		return strings.Contains(title, w)
	})
	if len(missing) == 0 {
		return found, nil
	}

	all := uint32(1)<<len(missing) - 1
	best, seen, text := uint32(0), uint32(0), ""
	for raw, err := range s.raw(ctx, owner, c.ID) {
		if errors.Is(err, ErrChanged) {
			break // what was read is what there was
		}

		var m struct{ Content string }
		if err == nil {
			err = json.Unmarshal([]byte(raw), &m)
		}
		if err != nil {
			return nil, fmt.Errorf("search: %w", err)
		}

		here := which(m.Content, missing)
		seen |= here
		if bits.OnesCount32(here) > bits.OnesCount32(best) {
			best, text = here, m.Content
		}
		if best == all {
			break
		}
	}

	if seen != all {
		return nil, nil
	}

	found.Excerpt = mark(excerpt(text, missing), words)
	return found, nil
}

// which returns a bit for each of the words that is in the text.
func which(text string, words []string) (found uint32) {
	text = fold(text)
	for i, w := range words {
		if strings.Contains(text, w) {
			found |= 1 << i
		}
	}
	return found
}

// excerpt returns the part of a text around the first of the words in it, as one line.
func excerpt(text string, words []string) string {
	folded := fold(text)
	at, length := len(folded), 0
	for _, w := range words {
		if i := strings.Index(folded, w); i >= 0 && i < at {
			at, length = i, utf8.RuneCountInString(w)
		}
	}

	runes := []rune(text)
	hit := utf8.RuneCountInString(folded[:at])
	from, to := max(0, hit-excerptBefore), min(len(runes), hit+length+excerptAfter)
	before, after := "", ""
	if from > 0 {
		before = "…"
		if i := slices.IndexFunc(runes[from:hit], unicode.IsSpace); i >= 0 {
			from += i
		}
	}

	if to < len(runes) {
		after = "…"
		for i := to; i > hit+length; i-- {
			if unicode.IsSpace(runes[i]) {
				to = i
				break
			}
		}
	}

	return before + strings.Join(strings.Fields(string(runes[from:to])), " ") + after
}

// mark splits a text where one of the words begins and ends.
func mark(text string, words []string) []backendapi.Piece {
	var out []backendapi.Piece
	add := func(runes []rune, hit bool) {
		if len(runes) > 0 {
			out = append(out, backendapi.Piece{Text: string(runes), Hit: hit})
		}
	}

	runes, folded := []rune(text), []rune(fold(text))
	plain := 0 // where the text begins that is no hit
	for i := 0; i < len(runes); {
		length := 0
		for _, w := range words {
			word := []rune(w)
			if len(word) > length && len(word) <= len(folded)-i &&
				slices.Equal(folded[i:i+len(word)], word) {
				length = len(word)
			}
		}

		if length == 0 {
			i++
			continue
		}

		add(runes[plain:i], false)
		add(runes[i:i+length], true)
		i += length
		plain = i
	}

	add(runes[plain:], false)
	return out
}

// rawBatch is how many messages are read at once.
const rawBatch = 16

// raw reads the messages that a conversation has now, oldest first, as they are stored. It ends
// with ErrChanged if some are gone before they are read.
func (s *Store) raw(ctx context.Context, owner, id string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		key := s.key.messages(owner, id)
		length, err := s.rdb.LLen(ctx, key).Result()
		for place := int64(0); err == nil && place < length; {
			var batch []string
			batch, err = s.rdb.LRange(ctx, key, place, min(place+rawBatch, length)-1).Result()
			if err == nil && len(batch) == 0 {
				err = ErrChanged
			}

			for _, m := range batch {
				if !yield(m, nil) {
					return
				}
			}

			place += int64(len(batch))
		}

		if err != nil {
			yield("", err)
		}
	}
}

// Messages reads the messages that a conversation of the owner has now, oldest first. It ends with
// ErrChanged if some are gone before they are read.
func (s *Store) Messages(
	ctx context.Context, c Conversation,
) iter.Seq2[backendapi.Message, error] {
	return func(yield func(backendapi.Message, error) bool) {
		for raw, err := range s.raw(ctx, c.Owner, c.ID) {
			var m backendapi.Message
			if err == nil {
				err = json.Unmarshal([]byte(raw), &m)
			}

			if err != nil {
				yield(m, fmt.Errorf("read a message: %w", err))
				return
			}

			if !yield(m, nil) {
				return
			}
		}
	}
}
