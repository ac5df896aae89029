package policy_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestBackup checks that stacks with backups keep every rule: a private one on both targets, and one
// whose directory is the machine's. No other path of the machine is let in by that.
func TestBackup(t *testing.T) {
	const place = "/srv/backups"
	recipients := []string{"age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"}
	bucket := &stacks.BackupSettings{Recipients: recipients, Every: 24 * 3600e9,
		Keep: stacks.KeepSettings{Last: 1},
		S3: &stacks.S3Settings{URL: "https://s3.example.com:443", Region: "r", Bucket: "b",
			AccessKey: "k"}}
	directory := &stacks.BackupSettings{Recipients: recipients, Every: 24 * 3600e9,
		Keep: stacks.KeepSettings{Last: 1}, Directory: place}

	for name, tt := range map[string]struct {
		stack   string
		backup  *stacks.BackupSettings
		change  func(*stacks.Stack)
		targets []stacks.Target
		want    string // the rule that is broken, and by whom
	}{
		"private": {"healthcare", bucket, nil, plan.Targets, ""},
		"private with a way out": {"healthcare", bucket, func(s *stacks.Stack) {
			s.Networks = append(s.Networks, stacks.Network{Name: "open"})
			svc := s.Service(stacks.Backup)
			svc.Networks = append(svc.Networks, "open")
		}, []stacks.Target{stacks.Docker}, "isolation backup"},
		"a directory": {"prod", directory, nil, []stacks.Target{stacks.Docker}, ""},
		"another directory": {"prod", directory, func(s *stacks.Stack) {
			svc := s.Service(stacks.ML)
			svc.Mounts = append(svc.Mounts, stacks.Mount{Kind: stacks.MountHost, Source: "/etc",
				Target: "/host"})
		}, []stacks.Target{stacks.Docker}, "host-path ml"},
	} {
		for _, target := range tt.targets {
			t.Run(name+" on "+string(target), func(t *testing.T) {
				stack, err := stacks.Load(tt.stack, stacks.Settings{
					Target: target, AssumeSecrets: true, Backup: tt.backup,
					Secrets: map[string]bool{stacks.RedisPasswordKey: true},
				}, stacks.Checkout{FS: os.DirFS(projectRoot(t))})
				if err != nil {
					t.Fatal(err)
				}
				if tt.change != nil {
					tt.change(&stack)
				}

				var view workload.View
				if target == stacks.Docker {
					view = onEngine(t, stack, nil)
				} else {
					view = onCluster(t, stack, record(t, stack))
				}

				var broken []string
				for _, v := range check(t, stack, view).Violations {
					broken = append(broken, v.Rule+" "+v.Subject)
				}
				slices.Sort(broken)
				if got := strings.Join(slices.Compact(broken), ", "); got != tt.want {
					t.Errorf("broken is %q, want %q", got, tt.want)
				}
			})
		}
	}
}
