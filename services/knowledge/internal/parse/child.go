package parse

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/landlock-lsm/go-landlock/landlock"
	"golang.org/x/sys/unix"
)

// The variables by which a Runner tells its child what to bound.
const (
	cpuVariable   = "PARSE_CPU_SECONDS"
	dataVariable  = "PARSE_DATA_BYTES"
	cacheVariable = "PARSE_CACHE"
)

// prepare is, in the place of a type, the child that fills the cache.
const prepare Type = "prepare"

// maxInput bounds what a child reads of its standard input.
const maxInput = 128 << 20

// Child is the child process of a Runner: it reads a document of the type from in, and writes what
// it finds to out. Before that it gives up what it does not need: files, the network, and more
// time and memory than a document may take.
func Child(t Type, in io.Reader, out io.Writer, getenv func(string) string) error {
	cache := getenv(cacheVariable)
	if err := confine(t == prepare, cache, getenv); err != nil {
		return err
	}
	if t == prepare {
		if err := compilePDFium(cache); err != nil {
			return err
		}
		return json.NewEncoder(out).Encode(answer{Document: &Document{}})
	}

	b, err := io.ReadAll(io.LimitReader(in, maxInput))
	if err != nil {
		return err
	}

	var a answer
	a.Document, err = read(t, b, cache)
	if err != nil && !errors.As(err, &a.Refusal) {
		return err
	}
	return json.NewEncoder(out).Encode(a)
}

// confine gives up what the process does not need, for good: what is left of the files is the cache,
// to be read, or filled. A kernel without Landlock, or with an old one, lets it keep more.
func confine(fill bool, cache string, getenv func(string) string) error {
	// If the container has no memory left this process ends, and not the one that serves.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)

	for _, l := range []struct {
		resource int
		variable string
	}{{unix.RLIMIT_CPU, cpuVariable}, {unix.RLIMIT_DATA, dataVariable}} {
		n, err := strconv.ParseUint(getenv(l.variable), 10, 64)
		if err != nil {
			return fmt.Errorf("%s: %w", l.variable, err)
		}
		if err := unix.Setrlimit(l.resource, &unix.Rlimit{Cur: n, Max: n}); err != nil {
			return fmt.Errorf("%s: %w", l.variable, err)
		}
	}

	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("bound the process: %w", err)
	}
	var rules []landlock.Rule
	switch {
	case fill:
		rules = append(rules, landlock.RWDirs(cache))
	default:
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{}); err != nil {
			return fmt.Errorf("bound the process: %w", err)
		}
		if cache != "" {
			rules = append(rules, landlock.RODirs(cache))
		}
	}

	if err := landlock.V6.BestEffort().Restrict(rules...); err != nil {
		return fmt.Errorf("give up files and the network: %w", err)
	}
	return nil
}
