package doctor_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/doctor"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// answer is a stack whose services answer every command with it.
type answer string

func (answer) Replicas(_ context.Context, service string) ([]running.Replica, error) {
	return []running.Replica{{Service: service, Name: service, Healthy: true}}, nil
}

func (a answer) Exec(
	_ context.Context, in running.Replica, command []string,
) (int, string, error) {
	if len(command) != 2 || command[0] != "/"+in.Service || command[1] != "certificate" {
		return 1, "usage", nil
	}
	return 0, string(a), nil
}

func TestCertificates(t *testing.T) {
	settings := stacks.Settings{AssumeSecrets: true}
	checkout := stacks.Checkout{FS: os.DirFS("../../../..")}
	stack, err := stacks.Load("healthcare", settings, checkout)
	if err != nil {
		t.Fatal(err)
	}

	now := time.Date(2028, 9, 1, 0, 0, 0, 0, time.UTC)
	for said, want := range map[answer]doctor.Status{
		"2029-01-01T00:00:00Z\n": doctor.OK,
		"2028-10-15T00:00:00Z\n": doctor.Warn,
		"2028-08-31T00:00:00Z\n": doctor.Fail,
		"usage":                  doctor.Warn,
	} {
		got := doctor.Certificates(t.Context(), said, stack, now)
		if len(got) != 1 || got[0].Status != want {
			t.Errorf("%q: %+v, want %s", said, got, want)
		}
	}

	plain, err := stacks.Load("prod", settings, checkout)
	if err != nil {
		t.Fatal(err)
	}
	if got := doctor.Certificates(t.Context(), answer(""), plain, now); got[0].Status != doctor.Skip {
		t.Errorf("without TLS inside: %+v", got)
	}
}
