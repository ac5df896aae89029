package auditlog

import (
	"fmt"
	"time"
)

// Chain checks lines that follow each other.
type Chain struct {
	key Key

	// first and last are the records at both ends, hash is that of the last line.
	first, last Record
	hash        string
	count       int

	// others counts the records of other keys, of which open are not followed by one of the key.
	others, open int
	since, until time.Time // of the others
}

// NewChain returns the check of lines that the key signs. Any record may be the first.
func NewChain(key Key) *Chain { return &Chain{key: key} }

// Add checks the next line. The error names the first record that is not as it was written. After
// an error the check is over.
func (c *Chain) Add(line string) error {
	r, err := Parse(line)
	switch {
	case err != nil && c.count == 0:
		return fmt.Errorf("the first line: %w", err)
	case err != nil:
		return fmt.Errorf("the line after record %d: %w", c.last.Number, err)
	}

	own := r.Key == c.key.id
	if own && c.key.id != "" && !c.key.sealed(line) {
		return fmt.Errorf("record %d, %s: it was changed, or somebody else wrote it", r.Number,
			stamp(r))
	}

	switch {
	case c.count == 0:
		c.first = r
		if r.Number == 1 && r.Prev != "" {
			return fmt.Errorf("record 1, %s: something stood before it", stamp(r))
		}
	case r.Number > c.last.Number+1:
		return fmt.Errorf("record %d: it is lost; %d follows %d", c.last.Number+1, r.Number,
			c.last.Number)
	case r.Number != c.last.Number+1:
		return fmt.Errorf("record %d, %s: it stands where %d belongs", r.Number, stamp(r),
			c.last.Number+1)
	case r.Prev != c.hash:
		return fmt.Errorf("record %d, %s: it was changed, or another one stood before %d",
			c.last.Number, stamp(c.last), r.Number)
	}

	if own {
		c.open = 0
	} else {
		if c.others == 0 {
			c.since = r.Time
		}
		c.until = r.Time
		c.others++
		c.open++
	}

	c.last, c.hash = r, Hash(line)
	c.count++
	return nil
}

func stamp(r Record) string { return r.Time.UTC().Format(time.RFC3339) }

// End returns what was found, or an error if the last records are signed by none that counts.
func (c *Chain) End() (string, error) {
	if c.count == 0 {
		return "There are no records.", nil
	}

	if c.open > 0 {
		return "", fmt.Errorf("record %d, %s: it and those after it have no MAC of the stack's key: "+
			"its redisPassword was changed and nothing has been recorded since, or somebody else "+
			"wrote them", c.last.Number-int64(c.open)+1, stamp(c.last))
	}

	said := fmt.Sprintf("%d records, %d to %d, are as they were written: %s to %s.", c.count,
		c.first.Number, c.last.Number, stamp(c.first), stamp(c.last))
	if c.first.Number > 1 {
		said += fmt.Sprintf("\nThe chain can be checked from record %d, of %s, on. Days before that "+
			"are gone, as they are when their retention is over; whether somebody took them sooner "+
			"the rest does not tell.", c.first.Number, c.first.Time.UTC().Format(time.DateOnly))
	}

	if c.others > 0 {
		said += fmt.Sprintf("\n%d of them, from %s to %s, have the MAC of another key, and are "+
			"sealed by the records after them: redisPassword was changed.", c.others,
			c.since.UTC().Format(time.RFC3339), c.until.UTC().Format(time.RFC3339))
	}

	if c.key.id == "" {
		said += "\nThe stack has no secret, so the chain has no key: whoever can write to its " +
			"Redis could have made it anew."
	}

	return said, nil
}

// Compare checks that each record of a copy, in whatever order, is among the lines of a chain that
// was checked. Those that are older than the first line are left out. It returns how many were
// compared.
func Compare(lines, copied []string) (int, error) {
	if len(lines) == 0 {
		if len(copied) > 0 {
			return 0, fmt.Errorf("the copy has %d records, and the stack none", len(copied))
		}
		return 0, nil
	}

	first, err := Parse(lines[0])
	if err != nil {
		return 0, err
	}

	compared := 0
	for i, line := range copied {
		r, err := Parse(line)
		if err != nil {
			return 0, fmt.Errorf("line %d of the copy: %w", i+1, err)
		}

		at := r.Number - first.Number
		switch {
		case at == -1 && first.Prev != Hash(line):
			return 0, fmt.Errorf("record %d, %s: it is another one than the stack's next record "+
				"follows", r.Number, stamp(r))
		case at < 0:
			continue
		case at >= int64(len(lines)):
			return 0, fmt.Errorf("record %d, %s: it is in the copy, and was cut off in the stack",
				r.Number, stamp(r))
		case lines[at] != line:
			return 0, fmt.Errorf("record %d, %s: it is another one in the copy than in the stack",
				r.Number, stamp(r))
		}

		compared++
	}

	return compared, nil
}
