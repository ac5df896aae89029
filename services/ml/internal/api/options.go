package api

import (
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

// options are the runner options a request may set, with what their values may be. Others would
// load the model anew for one request, or reach into the machine (num_gpu, use_mmap, ...).
var options = map[string]func(any) string{
	"temperature":       number(0, 2),
	"top_p":             number(0, 1),
	"min_p":             number(0, 1),
	"top_k":             whole(0, 1000),
	"repeat_penalty":    number(0, 2),
	"presence_penalty":  number(-2, 2),
	"frequency_penalty": number(-2, 2),
	"num_predict":       whole(1, mlapi.MaxTokens),
	"seed":              whole(math.MinInt32, math.MaxInt32),
	"stop":              stops,
}

// checkOptions reports every option that cannot be.
func checkOptions(given map[string]any) *problem.Problem {
	var errs []problem.FieldError
	for _, name := range slices.Sorted(maps.Keys(given)) {
		check, ok := options[name]
		message := ""
		if !ok {
			message = "unknown option (valid: " + strings.Join(slices.Sorted(maps.Keys(options)),
				", ") + ")"
		} else {
			message = check(given[name])
		}

		if message != "" {
			errs = append(errs, problem.FieldError{
				Location: "body.options." + name, Message: message,
			})
		}
	}

	if len(errs) == 0 {
		return nil
	}

	p := problem.New(http.StatusBadRequest, "The request is not valid.")
	p.Errors = errs
	return p
}

func number(low, high float64) func(any) string {
	return func(v any) string {
		if n, ok := v.(float64); !ok || n < low || n > high {
			return fmt.Sprintf("must be a number from %g to %g", low, high)
		}
		return ""
	}
}

func whole(low, high float64) func(any) string {
	return func(v any) string {
		if n, ok := v.(float64); !ok || n < low || n > high || n != math.Trunc(n) {
			return fmt.Sprintf("must be a whole number from %.0f to %.0f", low, high)
		}
		return ""
	}
}

func stops(v any) string {
	const message = "must be a list of 1 to 8 texts, none of them empty"
	list, ok := v.([]any)
	if !ok || len(list) == 0 || len(list) > 8 {
		return message
	}

	for _, x := range list {
		if s, ok := x.(string); !ok || s == "" {
			return message
		}
	}

	return ""
}
