package prompt

import (
	"fmt"
	"math"
	"slices"
	"sort"

	"github.com/codexcontinue/codexcontinue/services/ml/internal/vocabulary"
	"github.com/ollama/ollama/api"
)

const (
	// minReserve is how many tokens are kept for an answer at least.
	minReserve = 256

	// minRest is how many are kept for the rest of an answer that goes on.
	minRest = 32

	// seams is how many tokens a prompt may be off what is counted, as tokens may grow together at
	// the seams of its parts; the one that begins every text is among them.
	seams = 8

	// turnEstimate is how many tokens a message has beside its text, where that is not known.
	turnEstimate = 16
)

// Reserve returns how many tokens of a context are kept for the answer: as many as it may have
// (predict, 0 where nothing says), else a quarter of the context and 256 at least; never more than
// half the context.
func Reserve(context, predict int) int {
	if predict == 0 {
		predict = max(context/4, minReserve)
	}
	return min(predict, context/2)
}

// Rest returns how many tokens are kept for the rest of an answer of which some are there already.
func Rest(reserve, written int) int { return max(reserve-written, minRest) }

// TooLongError refuses a message that does not fit, though everything that may be left out is.
type TooLongError struct {
	// Tokens is about how many the message has, Room how many fit beside the SYSTEM prompt and the
	// answer. Of a prompt that was checked whole they are its tokens, and how many may be.
	Tokens, Room int
	Whole        bool
}

func (e *TooLongError) Error() string {
	return fmt.Sprintf("the message has about %d tokens, and the model's context has room for %d",
		e.Tokens, e.Room)
}

// Fit returns the messages without as many of the oldest turns as it takes for the prompt to have
// room tokens at most. The system's messages stay, and so does the user's last one with what
// follows; the first one left is a user's. The error is a *TooLongError.
func (m *Model) Fit(messages []api.Message, room int) (kept []api.Message, err error) {
	// Every token is a byte at least, so most prompts need no counting.
	if prompt, err := m.render(messages, nil); err == nil && len(prompt)+seams <= room {
		return messages, nil
	}

	borders := turns(messages)

	// The texts alone, the newest turns first, up to the first turn that cannot fit.
	texts := make([]int, len(borders))
	first, sum, end := len(borders), 0, len(messages)
	for first > 0 && (first == len(borders) || sum <= room) {
		first--
		for _, x := range messages[borders[first]:end] {
			if x.Role != "system" {
				sum += m.countTo(x.Content, room)
			}
		}
		end, texts[first] = borders[first], sum
	}

	// What the template adds shrinks with each turn that goes.
	size := func(i int) int { return texts[i] + m.frame(without(messages, borders[i])) }
	i := first + sort.Search(len(borders)-first, func(i int) bool { return size(first+i) <= room })
	if i < len(borders) {
		return without(messages, borders[i]), nil
	}

	last := len(borders) - 1
	tokens := m.countTo(messages[lastUser(messages)].Content, room)
	return nil, &TooLongError{Tokens: tokens, Room: max(0, room-size(last)+tokens)}
}

// Check returns a *TooLongError if the prompt of all messages and tools has more than room tokens.
func (m *Model) Check(messages []api.Message, tools api.Tools, room int) error {
	if err := m.checkTexts(messages, room); err != nil {
		return err
	}

	prompt, err := m.render(messages, tools)
	if err != nil {
		prompt = tools.String()
		for _, x := range messages {
			prompt += x.Content
		}
		room -= turnEstimate * len(messages)
	}

	return m.CheckText(prompt, room)
}

// checkTexts returns a *TooLongError if the messages' texts alone have more than room tokens. To
// render them may take time that grows with the square of their number.
func (m *Model) checkTexts(messages []api.Message, room int) error {
	if len(messages) > room { // each is a token at least
		return &TooLongError{Tokens: len(messages), Room: room, Whole: true}
	}

	sum, most := 0, room+seams*len(messages) // as tokens may grow together at the seams
	for _, x := range messages {
		if sum += m.countTo(x.Content, most); sum > most {
			return &TooLongError{Tokens: sum, Room: room, Whole: true}
		}
	}

	return nil
}

// CheckText returns a *TooLongError if the text has more than room tokens.
func (m *Model) CheckText(text string, room int) error {
	if len(text)+seams <= room { // every token is a byte at least
		return nil
	}
	if n := m.countTo(text, room) + seams; n > room {
		return &TooLongError{Tokens: n, Room: room, Whole: true}
	}

	return nil
}

// Less returns the messages without their oldest turn; false when there is none that may go.
func Less(messages []api.Message) ([]api.Message, bool) {
	if borders := turns(messages); len(borders) > 1 {
		return without(messages, borders[1]), true
	}
	return nil, false
}

// Least returns the messages with as many of the oldest turns left out as may go.
func Least(messages []api.Message) []api.Message {
	borders := turns(messages)
	return without(messages, borders[len(borders)-1])
}

// turns returns where the messages may begin: at the first that is no system's, and at each user's
// after it.
func turns(messages []api.Message) []int {
	var out []int
	for i, x := range messages {
		if x.Role == "user" || x.Role == "assistant" && len(out) == 0 {
			out = append(out, i)
		}
	}

	if len(out) == 0 {
		return []int{0}
	}

	return out
}

// without leaves out what is before the border, but for the system's messages.
func without(messages []api.Message, border int) []api.Message {
	var out []api.Message
	for i, x := range messages {
		if i >= border || x.Role == "system" {
			out = append(out, x)
		}
	}
	return out
}

func lastUser(messages []api.Message) int {
	for i, x := range slices.Backward(messages) {
		if x.Role == "user" {
			return i
		}
	}
	return len(messages) - 1
}

// frame returns how many tokens the prompt has beside the messages' texts: the system's words, and
// what the template adds.
func (m *Model) frame(messages []api.Message) int {
	n := seams
	bare := slices.Clone(messages)
	for i := range bare {
		if bare[i].Role == "system" {
			continue
		}
		bare[i].Content = "x"
	}

	prompt, err := m.render(bare, nil)
	if err == nil {
		return n + m.Count(prompt)
	}

	for _, x := range bare {
		n += turnEstimate + m.Count(x.Content)
	}

	if m != nil {
		n += m.Count(m.system)
	}

	return n
}

// Count returns how many tokens a text is.
func (m *Model) Count(text string) int { return m.countTo(text, math.MaxInt) }

func (m *Model) countTo(text string, limit int) int {
	if m == nil {
		return vocabulary.Estimate(text)
	}
	return m.Vocabulary.CountTo(text, limit)
}
