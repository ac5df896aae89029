package job

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backup/archive"
	"github.com/codexcontinue/codexcontinue/services/backup/internal/depot"
)

// MissingWeights returns those of the weights, by their SHA-256, that have to be given to PutWeights:
// they are not there, or other recipients read them. What is there, and what comes, stays for a day,
// in which a state may name it.
func (j *Job) MissingWeights(ctx context.Context, sums []string) ([]string, error) {
	if err := j.need(ctx, j.Now(), sums); err != nil {
		return nil, err
	}
	files, err := j.files(ctx)
	if err != nil {
		return nil, err
	}

	var missing []string
	for _, sum := range sums {
		there, err := j.hasWeights(ctx, files, sum)
		if err != nil {
			return nil, err
		}
		if !there {
			missing = append(missing, sum)
		}
	}
	return missing, nil
}

// need has the weights stay as long as the state of the time does.
func (j *Job) need(ctx context.Context, state time.Time, sums []string) error {
	for _, sum := range sums {
		err := j.Depot.Create(ctx, archive.NeedFile(state, sum), strings.NewReader(""))
		if err != nil {
			return err
		}
	}
	return nil
}

// needWeights has the weights stay that are beside the state.
func (j *Job) needWeights(ctx context.Context, s archive.State) error {
	if s.Model == nil {
		return nil
	}

	var sums []string
	for _, f := range s.Model.Files {
		if !f.Beside {
			continue
		}
		if err := archive.CheckSum(f.SHA256); err != nil {
			return fmt.Errorf("model: %w", err)
		}
		sums = append(sums, f.SHA256)
	}
	if err := j.need(ctx, s.Time, sums); err != nil {
		return err
	}

	files, err := j.files(ctx)
	if err != nil {
		return err
	}
	for _, sum := range sums {
		if there, err := j.hasWeights(ctx, files, sum); err != nil || !there {
			return cmp.Or(err, fmt.Errorf("weights %s are not there", sum))
		}
	}
	return nil
}

// hasWeights reports whether the weights are there, for the recipients.
func (j *Job) hasWeights(ctx context.Context, files []file, sum string) (bool, error) {
	s, err := j.weightsSummary(ctx, sum)
	switch {
	case errors.Is(err, depot.ErrNotFound), errors.Is(err, errDamaged):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("weights %s: %w", sum, err)
	}

	there := slices.ContainsFunc(files, func(f file) bool {
		return f.kind == archive.Weights && f.stem == sum && f.size == s.Bytes
	})
	return there && j.reads(s), nil
}

// reads reports whether the weights are for the recipients, and no others.
func (j *Job) reads(s archive.WeightsSummary) bool {
	return slices.Equal(slices.Sorted(slices.Values(s.Recipients)),
		slices.Sorted(slices.Values(j.Recipients)))
}

func (j *Job) weightsSummary(ctx context.Context, sum string) (s archive.WeightsSummary, err error) {
	err = j.readSummary(ctx, archive.WeightsSummaryFile(sum), &s)
	return s, err
}

// PutWeights keeps the weights of the SHA-256, and reads them again. None of them are held in
// memory.
func (j *Job) PutWeights(ctx context.Context, sum string, from io.Reader) error {
	err := j.putWeights(ctx, sum, from)
	if err != nil {
		return fmt.Errorf("weights %s: %w", sum, err)
	}
	return nil
}

func (j *Job) putWeights(ctx context.Context, sum string, from io.Reader) error {
	// One of damaged weights would be taken for that of the new ones. One for other recipients is not,
	// and what is there serves until the new ones are.
	s, err := j.weightsSummary(ctx, sum)
	switch {
	case err == nil && j.reads(s):
		err = j.Depot.Remove(ctx, archive.WeightsSummaryFile(sum))
	case errors.Is(err, depot.ErrNotFound), errors.Is(err, errDamaged):
		err = nil
	}
	if err != nil {
		return err
	}

	err = j.piped(ctx, archive.WeightsFile(sum), func(to io.Writer) (err error) {
		s, err = archive.SealWeights(to, j.Keys, sum, from)
		if err == nil { // they may have been sent for longer than what is half-made stays
			err = j.need(ctx, j.Now(), []string{sum})
		}
		return err
	})
	if err != nil {
		return err
	}
	s.Recipients = j.Recipients
	if err := j.compare(ctx, archive.WeightsFile(sum), s.Bytes, s.SHA256); err != nil {
		return err
	}

	b, err := json.MarshalIndent(s, "", "  ")
	if err == nil {
		err = j.Depot.Create(ctx, archive.WeightsSummaryFile(sum), strings.NewReader(string(b)+"\n"))
	}
	if err == nil {
		j.Log.InfoContext(ctx, "weights", "sha256", sum, "bytes", s.Bytes)
	}
	return err
}

// verifyWeights compares the weights with their summaries that the state needs which is kept with the
// backup.
func (j *Job) verifyWeights(ctx context.Context, backup string) error {
	files, err := j.files(ctx)
	if err != nil {
		return err
	}

	_, _, begun := archive.Parse(archive.File(backup))
	var state time.Time // the last of before, or the first
	for _, f := range files {
		if f.kind == archive.Settings {
			if state = f.at; !f.at.After(begun) {
				break
			}
		}
	}

	for _, f := range files {
		if f.kind != archive.Need || !f.at.Equal(state) {
			continue
		}
		s, err := j.weightsSummary(ctx, f.stem)
		if err == nil {
			err = j.compare(ctx, archive.WeightsFile(f.stem), s.Bytes, s.SHA256)
		}
		switch {
		case errors.Is(err, depot.ErrNotFound):
			return fmt.Errorf("weights %s of its model: %w", f.stem, err)
		case err != nil:
			return fmt.Errorf("weights %s of its model: %w: `codexctl backup create` keeps them again if "+
				"%s is removed", f.stem, err, archive.WeightsSummaryFile(f.stem))
		}
	}
	return nil
}

// pruneWeights drops the weights that no state of the times needs any more.
func (j *Job) pruneWeights(ctx context.Context, states map[time.Time]bool) error {
	files, err := j.files(ctx) // what needs them may have come since
	if err != nil {
		return err
	}

	needed := map[string]bool{}
	for _, f := range files {
		if f.kind != archive.Need {
			continue
		}
		if states[f.at] || j.Now().Sub(f.at) <= halfMade { // a state may follow
			needed[f.stem] = true
			continue
		}
		if err := j.Depot.Remove(ctx, f.name); err != nil {
			return err
		}
	}

	// By their names the summaries come later, and have to go first: what is left is half-made.
	for _, kind := range []archive.Kind{archive.WeightsSum, archive.Weights} {
		for _, f := range files {
			if f.kind != kind || needed[f.stem] {
				continue
			}
			if err := j.Depot.Remove(ctx, f.name); err != nil {
				return err
			}
			if kind == archive.Weights {
				j.Log.InfoContext(ctx, "weights dropped", "sha256", f.stem, "bytes", f.size)
			}
		}
	}
	return nil
}
