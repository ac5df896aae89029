package stacks

import (
	"errors"
	"fmt"
	"net"
	neturl "net/url"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backup/backupenv"
)

const (
	// Backup is the name of the service that makes backups. A stack has it where its settings say
	// for whom they are encrypted, and where they are kept.
	Backup = "backup"

	// backupSecret is the secret by which the storage of S3 knows who writes.
	backupSecret = "backup-secret-key"
)

const (
	backupPort = 7100
	backupDir  = "/backups"
	s3CA       = "/etc/backup/ca.pem"

	// backupDrain is how long it waits for what it does when it stops. A backup that is not done by
	// then is made anew.
	backupDrain = 10 * time.Second

	defaultRegion = "us-east-1"
)

// BackupSettings are the backups of a stack.
type BackupSettings struct {
	// Recipients are the public keys of age for whose identities backups are encrypted.
	Recipients []string

	// Every is the time between two backups, of which one is made At a time of the day in UTC.
	Every, At time.Duration

	// Directory of the machine is where they are kept, or S3.
	Directory string
	S3        *S3Settings

	Keep KeepSettings

	// Weights reports whether the weights of the stack's own model are kept, whatever their size; nil
	// stands for true.
	Weights *bool
}

// S3Settings are a place in a storage that speaks S3.
type S3Settings struct {
	URL, Region, Bucket, Prefix string

	// AccessKey names who writes; the key to it is the secret backupSecretKey.
	AccessKey string

	// CA is the PEM of the authority that signed the storage's certificate; empty trusts the usual
	// ones.
	CA string
}

// KeepSettings are how many backups stay: the last ones, and the last one of as many days, weeks
// and months.
type KeepSettings struct {
	Last, Daily, Weekly, Monthly int
}

func (s *Settings) decodeBackup(v string) error {
	if strings.TrimSpace(v) == "{}" {
		return nil
	}

	b := &BackupSettings{Every: day, At: 2 * time.Hour,
		Keep: KeepSettings{Last: 3, Daily: 7, Weekly: 4, Monthly: 6}}
	s.Backup = b
	const most = 10_000
	err := object(fields{
		"recipients": list(b.decodeRecipient),
		"every":      b.decodeEvery,
		"at":         b.decodeAt,
		"directory":  b.decodeDirectory,
		"s3":         b.decodeS3,
		"weights":    boolean(&b.Weights),
		"keep": func(v string) error {
			b.Keep = KeepSettings{}
			return object(fields{
				"last":    integer(&b.Keep.Last, 0, most),
				"daily":   integer(&b.Keep.Daily, 0, most),
				"weekly":  integer(&b.Keep.Weekly, 0, most),
				"monthly": integer(&b.Keep.Monthly, 0, most),
			})(v)
		},
	})(v)
	if err != nil {
		return err
	}

	var errs []error
	if len(b.Recipients) == 0 {
		errs = append(errs, prefixed("recipients", errors.New("is not set: write it like [age1...]; "+
			"`age-keygen -o KEY` makes an identity, and prints its public key")))
	}
	if (b.Directory == "") == (b.S3 == nil) {
		errs = append(errs, errors.New("needs directory or s3, one of the two: where backups are kept"))
	}
	if b.Keep == (KeepSettings{}) {
		errs = append(errs, prefixed("keep", errors.New("keeps nothing: write it like {last: 3, "+
			"daily: 7}")))
	}
	return errors.Join(errs...)
}

func (b *BackupSettings) decodeRecipient(v string) error {
	_, err := backupenv.ParseRecipient(v)
	b.Recipients = append(b.Recipients, v)
	return err
}

func (b *BackupSettings) decodeEvery(v string) error {
	d, err := time.ParseDuration(v)
	if err == nil {
		err = backupenv.CheckTimes(d, 0)
	}
	if err != nil {
		return fmt.Errorf("%q does not divide a day: write it like 24h, 6h or 15m", v)
	}
	b.Every = d
	return nil
}

func (b *BackupSettings) decodeAt(v string) error {
	t, err := time.Parse("15:04", v)
	if err != nil {
		return fmt.Errorf("%q is no time of a day in UTC: write it like \"02:30\", with the quotes", v)
	}
	b.At = time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
	return nil
}

func (b *BackupSettings) decodeDirectory(v string) error {
	if !cleanAbsolute(v) || v == "/" {
		return fmt.Errorf("%q is no absolute path of a directory, such as /srv/backups", v)
	}
	b.Directory = v
	return nil
}

func (b *BackupSettings) decodeS3(v string) error {
	s := &S3Settings{Region: defaultRegion}
	b.S3 = s
	err := object(fields{
		"url": s.decodeURL, "region": text(&s.Region), "bucket": text(&s.Bucket),
		"prefix": text(&s.Prefix), "accessKey": text(&s.AccessKey), "ca": text(&s.CA),
	})(v)
	if err != nil {
		return err
	}

	var errs []error
	for _, x := range []struct{ key, value string }{
		{"url", s.URL}, {"bucket", s.Bucket}, {"accessKey", s.AccessKey},
	} {
		if x.value == "" {
			errs = append(errs, prefixed(x.key, errors.New("is not set")))
		}
	}
	if s.Prefix != "" && !filepath.IsLocal(s.Prefix) {
		errs = append(errs, prefixed("prefix", fmt.Errorf("%q is no path in a bucket, such as "+
			"team/chat", s.Prefix)))
	}
	return errors.Join(append(errs, checkCA(s.CA))...)
}

// decodeURL reads the address of a storage, to which it adds the port.
func (s *S3Settings) decodeURL(v string) error {
	u, err := neturl.Parse(v)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" ||
		u.RawQuery != "" || u.User != nil {
		return fmt.Errorf("%q is no address of a storage: write it like https://s3.example.com", v)
	}

	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), strconv.Itoa(httpsPort))
	}
	u.Path = ""
	s.URL = u.String()
	return nil
}

// outside returns where the storage is.
func (s *S3Settings) outside() Outside {
	u, err := neturl.Parse(s.URL)
	if err != nil {
		return Outside{} // decodeURL has made it
	}
	port, _ := strconv.Atoi(u.Port())
	return Outside{Host: u.Hostname(), Port: port, Reason: "the storage of backups"}
}

// backup makes backups. Its container has no identity that could read one.
func backup(environment string, v BackupSettings) Service {
	c := &backupenv.Config{
		Common:     common(environment, backupPort),
		Stack:      environment,
		Recipients: v.Recipients,
		Every:      v.Every, At: v.At,
		KeepLast: v.Keep.Last, KeepDaily: v.Keep.Daily,
		KeepWeekly: v.Keep.Weekly, KeepMonthly: v.Keep.Monthly,
		MLServiceURL: url("http", ML, mlPort),
	}
	c.DrainTimeout = backupDrain

	s := own(Backup, backupPort, "/health")
	s.Contract, s.StopGrace = c, 2*backupDrain
	// It is ready when it has tried the place where backups are kept.
	s.Health.Command = []string{
		"/" + Backup, "healthcheck", url("http", loopback, backupPort) + "/ready",
	}
	s.DataFormat = backupenv.DataFormat
	s.DependsOn, s.Calls = []string{Redis}, []string{Redis, ML}
	return s
}

// applyBackup gives the stack the service, if the settings ask for backups.
func (s *Stack) applyBackup(all Settings) error {
	at, v := Project+":backup", all.Backup
	switch {
	case all.Secrets[BackupSecretKey] && (v == nil || v.S3 == nil):
		return fmt.Errorf("%s:%s: is set, and backups go to no storage of S3: set %[1]s:backup.s3, or "+
			"remove the key with `pulumi config rm -s %s %[1]s:%[2]s`", Project, BackupSecretKey, s.Name)
	case v == nil:
		return nil
	case all.Redis != nil && all.Redis.URL != "" || s.Service(Redis) == nil || s.Service(ML) == nil:
		return fmt.Errorf("%s: copies the stack's own Redis, and the stack has none: back up the other "+
			"Redis as its owner does, and remove the key", at)
	case !s.hasPassword():
		return fmt.Errorf("%s: needs the secret %s: pulumi config set --secret -s %s %s:%s", at,
			RedisPasswordKey, s.Name, Project, RedisPasswordKey)
	case v.Directory != "" && all.Target == Kubernetes:
		return fmt.Errorf("%s.directory: the kubernetes target cannot express it: pods come and go "+
			"between machines; set %[1]s.s3", at)
	}

	svc := backup(s.Name, *v)
	svc.Networks = slices.Clone(s.Service(Redis).Networks)
	c := svc.Contract.(*backupenv.Config)
	if shared := s.Service(ML).Contract; shared != nil { // as the settings have it
		c.LogLevel, c.Debug = shared.Shared().LogLevel, shared.Shared().Debug
	}
	if v.Directory != "" {
		c.Directory = backupDir
		svc.Mounts = []Mount{{Kind: MountHost, Source: v.Directory, Target: backupDir}}
	} else {
		svc.storeAt(*v.S3, c)
		s.Secrets = append(s.Secrets, Secret{Name: backupSecret, ConfigKey: BackupSecretKey})
	}

	s.BackupWeights = v.Weights == nil || *v.Weights
	s.Services = append(s.Services, svc)
	return nil
}

// storeAt has the service write to the storage.
func (s *Service) storeAt(v S3Settings, c *backupenv.Config) {
	c.S3URL, c.S3Region, c.S3Bucket = v.URL, v.Region, v.Bucket
	c.S3Prefix, c.S3AccessKey = v.Prefix, v.AccessKey
	c.S3SecretKeyFile = path.Join(secretsDir, backupSecret)
	s.Files = append(s.Files, File{Path: c.S3SecretKeyFile, Secret: backupSecret})
	if v.CA != "" {
		c.S3CAFile = s3CA
		s.Files = append(s.Files, File{Path: s3CA, Content: v.CA})
	}
	s.Outside = []Outside{v.outside()}
}
