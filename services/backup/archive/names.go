package archive

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// The kinds of files that are kept of a stack. Each but for weights is named KIND-TIME with its
// ending, so that they are in the order of time by their names.
const (
	backupKind   = "backup-"
	erasuresKind = "erasures-"
	stateKind    = "state-"
	needKind     = "need-"
	weightsKind  = "weights-"

	sealedEnding  = ".tar.age"
	summaryEnding = ".json"
	holdEnding    = ".hold"
	jsonEnding    = ".json.age"
	weightsEnding = ".age"
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

// WeightsFile returns the name of the file with the weights of the SHA-256, as SealWeights writes it.
// All states that need them share it.
func WeightsFile(sum string) string { return weightsKind + sum + weightsEnding }

// WeightsSummaryFile returns the name of the file with the WeightsSummary of these weights. It is
// written last: weights without one are not whole.
func WeightsSummaryFile(sum string) string { return weightsKind + sum + summaryEnding }

// NeedFile returns the name of a file without content, by which the weights of the SHA-256 stay as
// long as the state of the time does. Who drops them cannot read the state.
func NeedFile(state time.Time, sum string) string {
	return needKind + state.UTC().Format(timeForm) + "." + sum
}

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
	Need
	Weights
	WeightsSum
)

// Parse returns what the file of the name has, and the time of its name. name is that of a backup
// without an ending, or the SHA-256 of weights, which are of no time.
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

	if text, of := strings.CutPrefix(file, needKind); of {
		text, sum, _ := strings.Cut(text, "Z.")
		at, err := time.Parse(timeForm, text+"Z")
		if err == nil && isSum(sum) {
			return Need, sum, at
		}
	}
	if text, of := strings.CutPrefix(file, weightsKind); of {
		if sum, ok := strings.CutSuffix(text, weightsEnding); ok && isSum(sum) {
			return Weights, sum, time.Time{}
		}
		if sum, ok := strings.CutSuffix(text, summaryEnding); ok && isSum(sum) {
			return WeightsSum, sum, time.Time{}
		}
	}
	return Other, "", time.Time{}
}

// isSum reports whether the text is a SHA-256 in hex, as this package writes it.
func isSum(text string) bool {
	b, err := hex.DecodeString(text)
	return err == nil && len(b) == sha256.Size && text == strings.ToLower(text)
}

// CheckSum returns an error unless the text is a SHA-256.
func CheckSum(text string) error {
	if !isSum(text) {
		return fmt.Errorf("%q is no SHA-256 of 64 digits and letters a to f", text)
	}
	return nil
}

// CheckName returns an error unless the text is the name of a backup.
func CheckName(name string) error {
	if kind, _, _ := Parse(File(name)); kind != Sealed {
		return fmt.Errorf("%q is no name of a backup, such as %s", name,
			Name(time.Date(2026, 11, 26, 3, 0, 0, 0, time.UTC)))
	}
	return nil
}
