package archive

import (
	"fmt"
	"strings"
	"time"
)

// The kinds of files that are kept of a stack. Each is named KIND-TIME with its ending, so that they
// are in the order of time by their names.
const (
	backupKind   = "backup-"
	erasuresKind = "erasures-"
	stateKind    = "state-"

	sealedEnding  = ".tar.age"
	summaryEnding = ".json"
	holdEnding    = ".hold"
	jsonEnding    = ".json.age"
)

// timeForm is a time in the name of a file, in UTC.
const timeForm = "20060102T150405.000Z"

// Name returns the name of the backup that was begun at the time, without an ending.
func Name(begun time.Time) string { return backupKind + begun.UTC().Format(timeForm) }

// File returns the name of a backup's file.
func File(name string) string { return name + sealedEnding }

// SummaryFile returns the name of the file with a backup's summary. It is written last: a backup
// without one is not whole.
func SummaryFile(name string) string { return name + summaryEnding }

// HoldFile returns the name of the file by which a backup stays that is being restored. It has the
// time until which it does, in the form of RFC 3339.
func HoldFile(name string) string { return name + holdEnding }

// ErasuresFile returns the name of a file that is written at the time: a list of auditlog.Record, of
// acts by which something went for good, or somebody's rights did. A restore of a backup of before
// has them done again, or says that they were not.
func ErasuresFile(at time.Time) string {
	return erasuresKind + at.UTC().Format(timeForm) + jsonEnding
}

// StateFile returns the name of the file with the State of the time.
func StateFile(at time.Time) string { return stateKind + at.UTC().Format(timeForm) + jsonEnding }

// Kind is what a file has.
type Kind int

// The kinds of files.
const (
	Other Kind = iota
	Sealed
	Sum
	Gone
	Settings
	Hold
)

// Parse returns what the file of the name has, and the time of its name. name is that of a backup
// without an ending.
func Parse(file string) (kind Kind, name string, at time.Time) {
	for _, x := range []struct {
		prefix, ending string
		kind           Kind
	}{
		{backupKind, sealedEnding, Sealed},
		{erasuresKind, jsonEnding, Gone},
		{stateKind, jsonEnding, Settings},
		{backupKind, summaryEnding, Sum},
		{backupKind, holdEnding, Hold},
	} {
		stem, ok := strings.CutSuffix(file, x.ending)
		text, of := strings.CutPrefix(stem, x.prefix)
		at, err := time.Parse(timeForm, text)
		if ok && of && err == nil {
			return x.kind, stem, at
		}
	}
	return Other, "", time.Time{}
}

// CheckName returns an error unless the text is the name of a backup.
func CheckName(name string) error {
	if kind, _, _ := Parse(File(name)); kind != Sealed {
		return fmt.Errorf("%q is no name of a backup, such as %s", name,
			Name(time.Date(2026, 11, 26, 3, 0, 0, 0, time.UTC)))
	}
	return nil
}
