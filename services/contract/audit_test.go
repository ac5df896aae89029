package contract_test

import (
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/contract"
)

func TestAuditing(t *testing.T) {
	for _, tt := range []struct {
		vars contract.Auditing
		want string
	}{
		{contract.Auditing{}, ""},
		{contract.Auditing{Audit: true, AuditLog: true, AuditKeyFile: "/run/secrets/key"}, ""},
		{contract.Auditing{AuditLog: true}, "AUDIT: is not set"},
		{contract.Auditing{AuditKeyFile: "/run/secrets/key"}, "AUDIT: is not set"},
		{contract.Auditing{Audit: true, AuditKeyFile: "key"}, "AUDIT_KEY_FILE: "},
	} {
		err := tt.vars.Validate()
		if tt.want == "" && err != nil ||
			tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want)) {
			t.Errorf("%+v: %v", tt.vars, err)
		}
	}
}
