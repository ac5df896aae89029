package stacks_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backup/backupenv"
	"github.com/codexcontinue/codexcontinue/services/knowledge/knowledgeenv"
	"github.com/codexcontinue/codexcontinue/services/ml/mlenv"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// recipient is a public key of age, to an identity that nobody has kept.
const recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"

// backups are what the settings of backups say, with the place.
func backups(place string) string {
	return `{"recipients": ["` + recipient + `"], ` + place + `}`
}

const (
	inDirectory = `"directory": "/srv/backups"`
	inBucket    = `"s3": {"url": "https://s3.example.com", "bucket": "b", "accessKey": "k"}`
)

// withBackups returns prod's settings with backups at the place.
func withBackups(t *testing.T, place string) stacks.Settings {
	t.Helper()
	s, err := stacks.DecodeSettings(map[string]string{"backup": backups(place)},
		[]string{stacks.RedisPasswordKey})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestDecodeBackup reads the settings, and names what is wrong with them.
func TestDecodeBackup(t *testing.T) {
	s := withBackups(t, inDirectory).Backup
	if s.Every != 24*time.Hour || s.At != 2*time.Hour || s.Directory != "/srv/backups" ||
		s.Keep != (stacks.KeepSettings{Last: 3, Daily: 7, Weekly: 4, Monthly: 6}) {
		t.Errorf("by default: %+v", s)
	}
	for place, want := range map[string]bool{
		inDirectory: true, inDirectory + `, "weights": true`: true, inDirectory + `, "weights": false`: false,
	} {
		if got := load(t, "prod", withBackups(t, place)).BackupWeights; got != want {
			t.Errorf("%s: weights are kept: %t", place, got)
		}
	}
	ca, _ := certificate(t, "storage.example.com")
	s = withBackups(t, `"every": "6h", "at": "03:15", "keep": {"daily": 9}, "s3": {"url": `+
		`"https://s3.example.com:9000/", "bucket": "b", "accessKey": "k", "prefix": "a/b", `+
		`"region": "eu-1", "ca": `+strconv.Quote(ca)+`}`).Backup
	want := stacks.S3Settings{URL: "https://s3.example.com:9000", Region: "eu-1", Bucket: "b",
		Prefix: "a/b", AccessKey: "k", CA: ca}
	if s.Every != 6*time.Hour || s.At != 3*time.Hour+15*time.Minute || *s.S3 != want ||
		s.Keep != (stacks.KeepSettings{Daily: 9}) {
		t.Errorf("%+v, %+v", s, s.S3)
	}
	if s := withBackups(t, inBucket).Backup.S3; s.URL != "https://s3.example.com:443" ||
		s.Region != "us-east-1" {
		t.Errorf("%+v", s)
	}

	for value, want := range map[string]string{
		`{"directory": "/srv/b"}`:                                             "backup.recipients: is not set",
		backups(inDirectory + "," + inBucket):                                 "backup: needs directory or s3",
		backups(`"every": "24h"`):                                             "backup: needs directory or s3",
		backups(inDirectory + `, "every": "7h"`):                              `backup.every: "7h" does not divide a day`,
		backups(inDirectory + `, "weights": 8`):                               "backup.weights: must be true or false",
		backups(inDirectory + `, "every": "0s"`):                              `backup.every: "0s" does not divide a day`,
		backups(inDirectory + `, "at": "25:00"`):                              `backup.at: "25:00" is no time of a day`,
		backups(inDirectory + `, "keep": {"last": 0}`):                        "backup.keep: keeps nothing",
		backups(inDirectory + `, "keep": {"yearly": 1}`):                      "backup.keep.yearly: unknown key",
		backups(inDirectory + `, "kep": {}`):                                  "backup.kep: unknown key: did you mean keep",
		backups(`"directory": "backups"`):                                     "is no absolute path",
		backups(`"directory": "/"`):                                           "is no absolute path",
		backups(`"s3": {"url": "https://x"}`):                                 "backup.s3.bucket: is not set",
		strings.Replace(backups(inDirectory), "age1", "x", 1):                 "is no public key of age",
		strings.Replace(backups(inBucket), "https", "http", 1):                "write it like https://",
		strings.Replace(backups(inBucket), `"b"`, `"b", "prefix": "../x"`, 1): "is no path in a bucket",
		strings.Replace(backups(inBucket), `"b"`, `"b", "ca": "x"`, 1):        "backup.s3.ca: holds no certificate in PEM",
	} {
		_, err := stacks.DecodeSettings(map[string]string{"backup": value}, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", value, err, want)
		}
	}

	_, err := stacks.DecodeSettings(map[string]string{"backupSecretKey": "x"}, nil)
	if err == nil || !strings.Contains(err.Error(), "must be a secret") {
		t.Errorf("a secret in the clear: %v", err)
	}
}

// TestBackup holds that a stack has the service where its settings ask for backups, and that it may
// do no more than it does.
func TestBackup(t *testing.T) {
	if s := load(t, "prod", withPassword()); s.Service(stacks.Backup) != nil {
		t.Error("prod makes backups without being asked to")
	}

	settings := withBackups(t, inDirectory)
	s := load(t, "prod", withKnowledge(settings))
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	svc := s.Service(stacks.Backup)
	c := svc.Contract.(*backupenv.Config)
	mount := stacks.Mount{Kind: stacks.MountHost, Source: "/srv/backups", Target: "/backups"}
	if !slices.Equal(svc.Mounts, []stacks.Mount{mount}) || c.Directory != "/backups" ||
		c.Stack != "prod" || !c.Erasures || c.KnowledgeURL != "http://knowledge:7000" ||
		c.RedisURL != "redis://backup@redis:6379/0" || c.RedisPasswordFile == "" {
		t.Errorf("%+v, %+v", svc.Mounts, c)
	}
	if want := []string{"redis", "ml", "knowledge"}; !slices.Equal(svc.Calls, want) {
		t.Errorf("it calls %q", svc.Calls)
	}
	if len(svc.Outside) > 0 || svc.Replicas != 1 {
		t.Errorf("it reaches %v, %d times", svc.Outside, svc.Replicas)
	}
	for _, f := range svc.Files {
		if strings.Contains(f.Path, "identity") || strings.Contains(f.Path, "audit") {
			t.Errorf("it has %s", f.Path)
		}
	}

	settings = withBackups(t, inBucket)
	settings.Secrets[stacks.BackupSecretKey] = true
	for _, on := range []stacks.Target{stacks.Docker, stacks.Kubernetes} {
		settings.Target = on
		s = load(t, "prod", settings)
		if err := s.Validate(); err != nil {
			t.Fatalf("%s: %v", on, err)
		}
		svc = s.Service(stacks.Backup)
		c = svc.Contract.(*backupenv.Config)
		if len(svc.Mounts) > 0 || c.S3URL != "https://s3.example.com:443" || c.EgressURL != "" ||
			c.Erasures || c.KnowledgeURL != "" || len(svc.Outside) != 1 ||
			svc.Outside[0].Host != "s3.example.com" {
			t.Errorf("%s: %+v, %+v", on, svc, c)
		}
	}
}

// TestBackupPrivate: a private stack reaches the storage through the egress alone.
func TestBackupPrivate(t *testing.T) {
	settings := withBackups(t, inBucket)
	for _, key := range []string{stacks.BackupSecretKey, stacks.InternalAuthorityKey} {
		settings.Secrets[key] = true
	}
	s := load(t, "healthcare", withKnowledge(settings))
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	svc, proxy := s.Service(stacks.Backup), s.Service(stacks.Egress)
	if _, out := s.WayOut(*svc); out || len(svc.Outside) > 0 || proxy == nil {
		t.Fatalf("it has a way out: %+v", svc)
	}
	c := svc.Contract.(*backupenv.Config)
	if c.EgressURL != "http://egress:3128" || c.KnowledgeURL != "https://knowledge:7000" ||
		!strings.HasPrefix(c.RedisURL, "rediss://") || c.TLSCertificateFile == "" {
		t.Errorf("%+v", c)
	}
	if !slices.Contains(svc.Calls, stacks.Egress) || len(proxy.Outside) != 1 {
		t.Errorf("it calls %q, the egress reaches %v", svc.Calls, proxy.Outside)
	}
	for name, callers := range map[string][]string{
		stacks.Knowledge: s.Service(stacks.Knowledge).Contract.(*knowledgeenv.Config).TLSCallers,
		stacks.ML:        s.Service(stacks.ML).Contract.(*mlenv.Config).TLSCallers,
	} {
		if !slices.Contains(callers, stacks.Backup) {
			t.Errorf("%s is called by %q", name, callers)
		}
	}
}

// TestBackupRefused holds that settings which cannot be are refused, with what to do.
func TestBackupRefused(t *testing.T) {
	for want, change := range map[string]func(*stacks.Settings){
		"needs the secret redisPassword": func(s *stacks.Settings) {
			s.Overlay, s.Secrets = "dev", map[string]bool{}
		},
		"codexcontinue:backup.directory: the kubernetes target": func(s *stacks.Settings) {
			s.Target = stacks.Kubernetes
		},
		"codexcontinue:backupSecretKey: is set": func(s *stacks.Settings) {
			s.Secrets[stacks.BackupSecretKey] = true
		},
		"codexcontinue:backupSecretKey: is not set": func(s *stacks.Settings) {
			s.Backup = withBackups(t, inBucket).Backup
		},
		"services.backup.replicas: must be 1, got 2": func(s *stacks.Settings) {
			s.Services = map[string]stacks.ServiceSettings{stacks.Backup: {Replicas: new(2)}}
		},
		"the stack has none: back up the other": func(s *stacks.Settings) {
			s.Redis = &stacks.RedisSettings{URL: "redis://redis.example.com:6379/0"}
		},
	} {
		settings := withBackups(t, inDirectory)
		change(&settings)
		name := "prod"
		if settings.Overlay == "dev" {
			name = "dev"
		}
		s, err := stacks.Load(name, settings, checkout())
		if err == nil {
			err = s.Validate()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
