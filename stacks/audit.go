package stacks

import (
	"fmt"
	"path"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backup/backupenv"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
)

// AuditSettings are how it is recorded who did what, which it is wherever people sign in.
type AuditSettings struct {
	// Log has the services write each record to their logs as well.
	Log bool

	// Retention is how long records are kept at least; 0 keeps what the stack says.
	Retention time.Duration
}

// auditKey is the file with the key of the records' MACs, and what it is derived for.
const auditKey = "audit-key"

// The audit is kept in whole days.
const day = 24 * time.Hour

func (s *Settings) decodeAudit(v string) error {
	if v == "{}" {
		return nil
	}

	log := new(bool)
	s.Audit = &AuditSettings{}
	err := object(fields{
		"log": boolean(&log),
		"retention": func(v string) error {
			d, err := time.ParseDuration(v)
			if err != nil || d < day {
				return fmt.Errorf("%q is no duration of a day or more: write it like 9600h", v)
			}
			s.Audit.Retention = d
			return nil
		},
	})(v)
	s.Audit.Log = *log
	return err
}

// Audited reports whether it is recorded who does what.
func (s *Stack) Audited() bool {
	how := s.SignIn()
	return how != "" && how != gateenv.None
}

// applyAudit has the services record who does what, where people sign in. The key of the records is
// derived from the password of Redis, if there is one. Old records are dropped in the stack's own
// Redis, where that asks for passwords.
func (s *Stack) applyAudit(v *AuditSettings) error {
	drops := s.Service(Redis) != nil && s.hasPassword()
	if !s.Audited() || !drops {
		s.AuditRetention = 0
	}

	edit(s, func(c *backupenv.Config) { c.Erasures = s.Audited() })
	if !s.Audited() {
		if v != nil {
			return fmt.Errorf("%s:audit: is set, and nobody signs in to this stack, so there is "+
				"nobody to record: set signIn, or remove the key", Project)
		}
		return nil
	}

	if v != nil && v.Retention != 0 {
		if !drops {
			return fmt.Errorf("%s:audit.retention: is set, and nothing drops records here: that "+
				"does the stack's own Redis where it asks for a password; remove the key", Project)
		}
		s.AuditRetention = v.Retention
	}

	for i := range s.Services {
		svc := &s.Services[i]
		c, ok := svc.Contract.(contract.Audited)
		if !ok {
			continue
		}

		vars := c.AuditVariables()
		vars.Audit, vars.AuditLog = true, v != nil && v.Log
		if s.hasPassword() {
			vars.AuditKeyFile = path.Join(secretsDir, auditKey)
			svc.Files = append(svc.Files, File{
				Path: vars.AuditKeyFile, Secret: RedisPassword, Content: SecretFor(auditKey),
			})
		}
	}

	return nil
}
