package policy

import (
	"fmt"
	"slices"

	"github.com/codexcontinue/codexcontinue/infra/workload"
)

var storageRules = []Rule{{
	ID:     "retained-volume",
	Reason: "conversations and models outlive the stack: a mistaken destroy must not delete them",
	Fix:    "keep RetainOnDelete, or the claims' retention policy Retain",
	check: func(in Input) []Finding {
		var out []Finding
		for _, v := range in.Volumes {
			if !v.Retained {
				out = append(out, Finding{v.Name, "is deleted with the stack"})
			}
		}
		return out
	},
}, {
	ID:     "single-writer",
	Reason: "two servers that append to one file lose what either has acknowledged",
	Fix: "run one container, which is stopped before its successor starts: DeleteBeforeReplace, " +
		"or a StatefulSet with one replica",
	check: func(in Input) []Finding {
		var out []Finding
		for _, volume := range in.Stack.Volumes {
			if volume.SingleWriter {
				out = append(out, writers(in, volume.Name)...)
			}
		}
		return out
	},
}, {
	ID: "volume-owner",
	Reason: "what one service keeps is its own: another that can write there changes it behind its " +
		"back",
	Fix: "mount the volume read-only in all services but the one that it belongs to, or ask that one",
	check: func(in Input) []Finding {
		var out []Finding
		for _, volume := range in.Volumes {
			out = append(out, owners(in, volume.Name)...)
		}
		return out
	},
}}

// owners returns what is wrong with those that write to a volume. In a stack for development a
// volume may be a cache of several services, if they are one user to the kernel. One that takes one
// writer has a rule of its own.
func owners(in Input, volume string) []Finding {
	if v, ok := in.Stack.Volume(volume); ok && v.SingleWriter {
		return nil
	}

	var out []Finding
	var first *workload.Workload
	for _, w := range in.Workloads {
		switch {
		case !writes(w, volume):
		case first == nil:
			first = &w
		case w.Service == first.Service:
		case !in.Stack.Development:
			out = append(out, Finding{w.Service,
				fmt.Sprintf("writes to the volume %s, as %s does", volume, first.Service)})
		case w.Containers[0].User != first.Containers[0].User:
			out = append(out, Finding{w.Service, fmt.Sprintf(
				"writes to the volume %s as another user than %s", volume, first.Service)})
		}
	}

	return out
}

// writers returns what is wrong with those that write to a volume that takes one writer.
func writers(in Input, volume string) []Finding {
	var out []Finding
	first := ""
	for _, w := range in.Workloads {
		if !writes(w, volume) {
			continue
		}

		found := func(format string, args ...any) {
			out = append(out, Finding{w.Service, fmt.Sprintf(format, args...)})
		}
		switch {
		case w.Replicas > 1:
			found("has %d replicas on the volume %s", w.Replicas, volume)
		case first != "":
			found("shares the volume %s with %s", volume, first)
		case !w.StopsFirst:
			found("is replaced while it writes to the volume %s", volume)
		}

		first = w.Name
	}

	return out
}

func writes(w workload.Workload, volume string) bool {
	return slices.ContainsFunc(w.Containers, func(c workload.Container) bool {
		return slices.ContainsFunc(c.Mounts, func(m workload.Mount) bool {
			return m.Kind == workload.Storage && m.Source == volume && !m.ReadOnly
		})
	})
}
