// Package status names the wire types of GET /api/status for programs outside the services.
package status

import (
	"strings"

	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
)

// Path is the path below the edge's address.
const Path = "/api/status"

// Ready is the state of a stack and of a service that can be used.
const Ready = backendapi.StatusReady

// The states of a model that the commands tell apart.
const (
	ModelPulling = mlapi.BuildPulling
	ModelReady   = mlapi.BuildReady
	ModelFailed  = mlapi.BuildFailed
)

// MissingBase returns the base model that a line of ml's log says is missing, if it does.
func MissingBase(line string) (base string, ok bool) {
	before, after, _ := strings.Cut(mlapi.MissingText("\x00"), "\x00")
	_, rest, ok := strings.Cut(line, before)
	if !ok {
		return "", false
	}
	base, _, ok = strings.Cut(rest, after)
	return base, ok
}

// MissingText says that a base model is missing.
func MissingText(base string) string { return mlapi.MissingText(base) }

type (
	// Status is the response.
	Status = backendapi.Status

	// Service is the state of one service as the backend sees it.
	Service = backendapi.ServiceStatus

	// Model is the progress of the custom model.
	Model = mlapi.Build

	// Releases are the versions of the custom model, Replica those in one Ollama, Release is one of
	// them, and Evals what came of its evals.
	Releases = mlapi.Model
	Replica  = mlapi.Releases
	Release  = mlapi.Release
	Evals    = mlapi.Evals

	// EvalFailure is a case that failed.
	EvalFailure = mlapi.EvalFailure
)

// VerdictFailed is that on a version which does not pass its evals.
const VerdictFailed = mlapi.VerdictFailed

// VersionLength is how many letters of a model's digest its version is.
const VersionLength = mlapi.VersionLength
