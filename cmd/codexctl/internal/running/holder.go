package running

import (
	"encoding/json"
	"fmt"
	"time"
)

// Holder is the one process that may deploy a stack, on whatever machine. The engine or cluster of
// the stack keeps who it is.
type Holder struct {
	// ID tells two runs apart.
	ID string `json:"id"`

	// User, Host and PID are of the process, as its machine has them.
	User string `json:"user"`
	Host string `json:"host"`
	PID  int    `json:"pid"`

	// Command is what it runs, and Since when it began.
	Command string    `json:"command"`
	Since   time.Time `json:"since"`
}

// Text returns the holder in the form in which ParseHolder reads it.
func (h Holder) Text() string {
	b, err := json.Marshal(h)
	if err != nil {
		panic(err) // it has nothing that JSON has not
	}
	return string(b)
}

// ParseHolder reads what Text returned.
func ParseHolder(text string) (Holder, error) {
	var h Holder
	if err := json.Unmarshal([]byte(text), &h); err != nil || h.ID == "" {
		return h, fmt.Errorf("%q is not who holds a lock", text)
	}
	return h, nil
}
