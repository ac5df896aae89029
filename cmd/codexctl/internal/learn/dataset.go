// Package learn makes of what people have handed over, and an administrator has accepted, a data set
// and a change of the checkout: examples in a Modelfile, and cases that its model has to pass.
package learn

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/codexcontinue/codexcontinue/services/learning"
)

// chat is a line of a data set.
type chat struct {
	Messages []message `json:"messages"`
}

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// Dataset writes what was accepted as JSON lines in the chat format, and returns how many there are.
func Dataset(w io.Writer, all []learning.Submission) (n int, err error) {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, v := range all {
		if v.State != learning.Accepted || v.Review == nil {
			continue
		}

		err := enc.Encode(chat{[]message{
			{"user", v.Review.Question}, {"assistant", v.Review.Answer},
		}})
		if err != nil {
			return n, fmt.Errorf("write the data set: %w", err)
		}
		n++
	}

	return n, nil
}
