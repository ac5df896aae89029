// Package status names the wire types of GET /api/status for programs outside the services.
package status

import (
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

type (
	// Status is the response.
	Status = backendapi.Status

	// Service is the state of one service as the backend sees it.
	Service = backendapi.ServiceStatus

	// Model is the progress of the custom model.
	Model = mlapi.Build
)
