package running

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
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

	// Boot and PIDNamespace say where the number of the process means it, as Here returns them:
	// machines may have the same name, and so may containers. They are empty where that is not known.
	Boot         string `json:"boot,omitempty"`
	PIDNamespace string `json:"pidNamespace,omitempty"`

	// Command is what it runs, and Since when it began.
	Command string    `json:"command"`
	Since   time.Time `json:"since"`
}

// Here returns what tells the processes that this one sees from those of other machines, of this one
// before it was started, and of other containers: the ID of the boot of its kernel, and its PID
// namespace. Both are empty where the system, such as macOS, does not say it.
func Here() (boot, pidNamespace string) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", ""
	}

	ns, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return "", ""
	}
	return strings.TrimSpace(string(b)), ns
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
