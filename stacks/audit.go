package stacks

import (
	"fmt"
	"path"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
)

// AuditSettings are how it is recorded who did what, which it is wherever people sign in.
type AuditSettings struct {
	// Log has the services write each record to their logs as well.
	Log bool
}

// auditKey is the file with the key of the records' MACs, and what it is derived for.
const auditKey = "audit-key"

func (s *Settings) decodeAudit(v string) error {
	if v == "{}" {
		return nil
	}

	log := new(bool)
	err := object(fields{"log": boolean(&log)})(v)
	s.Audit = &AuditSettings{Log: *log}
	return err
}

// Audited reports whether it is recorded who does what.
func (s *Stack) Audited() bool {
	how := s.SignIn()
	return how != "" && how != gateenv.None
}

// applyAudit has the services record who does what, where people sign in. The key of the records is
// derived from the password of Redis, if there is one.
func (s *Stack) applyAudit(v *AuditSettings) error {
	if !s.Audited() {
		if v != nil {
			return fmt.Errorf("%s:audit: is set, and nobody signs in to this stack, so there is "+
				"nobody to record: set signIn, or remove the key", Project)
		}
		return nil
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
