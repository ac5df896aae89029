package backupenv_test

import (
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backup/backupenv"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/google/go-cmp/cmp"
)

const recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"

func valid() *backupenv.Config {
	return &backupenv.Config{
		Common: contract.Common{Environment: "prod", LogLevel: "info", ListenAddr: ":7100",
			DrainTimeout: time.Minute},
		RequiredRedis: contract.RequiredRedis{RedisURL: "redis://backup@redis:6379/0"},
		Stack:         "prod", Recipients: []string{recipient},
		Every: 24 * time.Hour, At: 2 * time.Hour,
		KeepLast: 3, KeepDaily: 7, KeepWeekly: 4, KeepMonthly: 6, Erasures: true,
		S3URL: "https://s3.example.com:443", S3Region: "us-east-1", S3Bucket: "b", S3Prefix: "p",
		S3AccessKey: "k", S3SecretKeyFile: "/run/secrets/backup-secret-key", S3CAFile: "/etc/ca.pem",
		EgressURL: "http://egress:3128", KnowledgeURL: "http://knowledge:7000",
		MLServiceURL: "http://ml:5000",
	}
}

func TestRoundTrip(t *testing.T) {
	environ, err := contract.Environ(valid())
	if err != nil {
		t.Fatal(err)
	}
	got, err := contract.Parse[backupenv.Config](environ)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(valid(), &got); d != "" {
		t.Errorf("Parse(Render(x)) != x (-want +got):\n%s", d)
	}
	if keys, err := got.Keys(); len(keys) != 1 || err != nil {
		t.Errorf("%d keys, %v", len(keys), err)
	}
}

func TestValidate(t *testing.T) {
	directory := valid()
	directory.S3URL, directory.Directory = "", "/backups"
	if err := directory.Validate(); err != nil {
		t.Error(err)
	}

	for want, change := range map[string]func(*backupenv.Config){
		"RECIPIENTS: \"x\" is no public key": func(c *backupenv.Config) { c.Recipients = []string{"x"} },
		"EVERY, AT: ":                        func(c *backupenv.Config) { c.Every = 7 * time.Hour },
		"EVERY, AT: 24h0m0s is no time":      func(c *backupenv.Config) { c.At = 24 * time.Hour },
		"KEEP_LAST, ": func(c *backupenv.Config) {
			c.KeepLast, c.KeepDaily, c.KeepWeekly, c.KeepMonthly = 0, 0, 0, 0
		},
		"DIRECTORY, S3_URL: ":      func(c *backupenv.Config) { c.Directory = "/backups" },
		"S3_URL: needs S3_BUCKET":  func(c *backupenv.Config) { c.S3Bucket = "" },
		"S3_URL: scheme":           func(c *backupenv.Config) { c.S3URL = "s3://b" },
		"S3_SECRET_KEY_FILE: ":     func(c *backupenv.Config) { c.S3SecretKeyFile = "x" },
		"S3_CA_FILE: ":             func(c *backupenv.Config) { c.S3CAFile = "x" },
		"KNOWLEDGE_URL: ":          func(c *backupenv.Config) { c.KnowledgeURL = "x" },
		"EGRESS_URL: ":             func(c *backupenv.Config) { c.EgressURL = "x" },
		"ML_SERVICE_URL: ":         func(c *backupenv.Config) { c.MLServiceURL = "x" },
		"REDIS_PASSWORD_FILE: \"x": func(c *backupenv.Config) { c.RedisPasswordFile = "x" },
	} {
		c := valid()
		change(c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
