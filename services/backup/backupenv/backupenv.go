// Package backupenv is the environment of backup.
package backupenv

import (
	"errors"
	"fmt"
	"time"

	"filippo.io/age"

	"github.com/codexcontinue/codexcontinue/services/contract"
)

// DataFormat counts the changes of the files beside what is encrypted, and of their names (package
// archive), that an earlier image cannot read. Raise it with such a change.
const DataFormat = 1

// Config is the environment of backup.
type Config struct {
	contract.Common
	contract.RequiredRedis

	// Stack is the stack's name, below which its backups are kept.
	Stack string `env:"STACK,required,notEmpty"`

	// Recipients are the public keys, age1..., for whose identities backups are encrypted.
	Recipients []string `env:"RECIPIENTS,required,notEmpty"`

	// Every is the time between two backups, of which one is made At a time of the day in UTC.
	Every time.Duration `env:"EVERY,required"`
	At    time.Duration `env:"AT,required"`

	// KeepLast, KeepDaily, KeepWeekly and KeepMonthly are how many backups stay.
	KeepLast    int `env:"KEEP_LAST,required"`
	KeepDaily   int `env:"KEEP_DAILY,required"`
	KeepWeekly  int `env:"KEEP_WEEKLY,required"`
	KeepMonthly int `env:"KEEP_MONTHLY,required"`

	// Erasures reports whether there are records of who erased what, to be kept beside the backups.
	Erasures bool `env:"ERASURES,required"`

	// Directory is where backups are kept; it is empty if they are in a bucket.
	Directory string `env:"DIRECTORY" optional:"true"`

	// S3URL is that of a storage of S3, and what follows names a place in it, and who uses it. The
	// access key is a name; the key to it is the secret.
	S3URL           string `env:"S3_URL" optional:"true"`
	S3Region        string `env:"S3_REGION" optional:"true"`
	S3Bucket        string `env:"S3_BUCKET" optional:"true"`
	S3Prefix        string `env:"S3_PREFIX" optional:"true"`
	S3AccessKey     string `env:"S3_KEY_ID" optional:"true"`
	S3SecretKeyFile string `env:"S3_SECRET_KEY_FILE" optional:"true"`

	// S3CAFile is a file with the certificates (PEM) of the authorities that sign the storage's;
	// empty trusts those of the system.
	S3CAFile string `env:"S3_CA_FILE" optional:"true"`

	// EgressURL is the proxy through which the storage is reached; empty is none.
	EgressURL string `env:"EGRESS_URL" optional:"true"`

	// KnowledgeURL is the base URL of the service with the documents; empty is none.
	KnowledgeURL string `env:"KNOWLEDGE_URL" optional:"true"`

	// MLServiceURL is the base URL of the ml service, which says which models there are.
	MLServiceURL string `env:"ML_SERVICE_URL,required,notEmpty"`
}

// Peers implements contract.Caller. The egress relays TLS, and speaks none itself.
func (c *Config) Peers() []*string {
	peers := []*string{&c.MLServiceURL}
	if c.KnowledgeURL != "" {
		peers = append(peers, &c.KnowledgeURL)
	}
	return peers
}

// Keys returns the recipients.
func (c *Config) Keys() ([]age.Recipient, error) {
	var keys []age.Recipient
	for _, text := range c.Recipients {
		key, err := ParseRecipient(text)
		if err != nil {
			return nil, fmt.Errorf("RECIPIENTS: %w", err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// ParseRecipient returns the recipient of a public key.
func ParseRecipient(text string) (age.Recipient, error) {
	key, err := age.ParseX25519Recipient(text)
	if err != nil {
		return nil, fmt.Errorf("%q is no public key of age, such as age1...: `age-keygen` prints one "+
			"(\"Public key\")", text)
	}
	return key, nil
}

// day is what Every divides.
const day = 24 * time.Hour

// CheckTimes returns an error unless backups can be made at the times.
func CheckTimes(every, at time.Duration) error {
	switch {
	case every < time.Minute || day%every != 0:
		return fmt.Errorf("%s does not divide a day: write it like 24h, 6h or 15m", every)
	case at < 0 || at >= day:
		return fmt.Errorf("%s is no time of a day", at)
	}
	return nil
}

// Validate implements contract.Environment.
func (c *Config) Validate() error {
	_, err := c.Keys()
	errs := []error{
		err, c.Common.Validate(), c.RequiredRedis.Validate(),
		contract.HTTPURL("ML_SERVICE_URL", c.MLServiceURL),
		contract.Absolute("DIRECTORY", c.Directory),
		contract.Absolute("S3_SECRET_KEY_FILE", c.S3SecretKeyFile),
		contract.Absolute("S3_CA_FILE", c.S3CAFile),
	}
	if err := CheckTimes(c.Every, c.At); err != nil {
		errs = append(errs, fmt.Errorf("EVERY, AT: %w", err))
	}

	least := min(c.KeepLast, c.KeepDaily, c.KeepWeekly, c.KeepMonthly)
	if least < 0 || c.KeepLast+c.KeepDaily+c.KeepWeekly+c.KeepMonthly == 0 {
		errs = append(errs, errors.New("KEEP_LAST, KEEP_DAILY, KEEP_WEEKLY, KEEP_MONTHLY: keep "+
			"nothing"))
	}

	switch {
	case (c.Directory == "") == (c.S3URL == ""):
		errs = append(errs, errors.New("DIRECTORY, S3_URL: one of the two says where backups are kept"))
	case c.S3URL != "":
		errs = append(errs, contract.HTTPURL("S3_URL", c.S3URL))
		if c.S3Bucket == "" || c.S3AccessKey == "" || c.S3SecretKeyFile == "" || c.S3Region == "" {
			errs = append(errs, errors.New("S3_URL: needs S3_BUCKET, S3_REGION, S3_KEY_ID and "+
				"S3_SECRET_KEY_FILE"))
		}
	}

	if c.KnowledgeURL != "" {
		errs = append(errs, contract.HTTPURL("KNOWLEDGE_URL", c.KnowledgeURL))
	}
	if c.EgressURL != "" {
		errs = append(errs, contract.HTTPURL("EGRESS_URL", c.EgressURL))
	}
	return errors.Join(errs...)
}
