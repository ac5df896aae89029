package contract

import "errors"

// Auditing holds the variables of a service that records who did what.
type Auditing struct {
	// Audit is set where acts are recorded, in the Redis of the service's other variables.
	Audit bool `env:"AUDIT" optional:"true"`

	// AuditLog has each record written to the service's log as well.
	AuditLog bool `env:"AUDIT_LOG" optional:"true"`

	// AuditKeyFile is the path of a file that holds the key of the records' MACs. It is empty where
	// the stack has no secret.
	AuditKeyFile string `env:"AUDIT_KEY_FILE" optional:"true"`
}

// Audited is the environment of a service that records who did what.
type Audited interface {
	Environment

	// AuditVariables returns the variables of the audit.
	AuditVariables() *Auditing
}

// AuditVariables implements Audited for the structs that embed a.
func (a *Auditing) AuditVariables() *Auditing { return a }

// Validate checks the variables of the audit.
func (a *Auditing) Validate() error {
	if !a.Audit && (a.AuditLog || a.AuditKeyFile != "") {
		return errors.New("AUDIT: is not set, but other variables of the audit are")
	}
	return Absolute("AUDIT_KEY_FILE", a.AuditKeyFile)
}
