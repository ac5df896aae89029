// Package depottest makes depots for tests: a directory, and a bucket of a real server of S3.
package depottest

import (
	"testing"

	"github.com/codexcontinue/codexcontinue/services/backup/internal/depot"
	"github.com/codexcontinue/codexcontinue/test/storage"
)

// Directory returns a depot of the stack prod in a directory of the test's own.
func Directory(t testing.TB) depot.Depot {
	t.Helper()
	d, err := depot.NewDirectory(t.TempDir(), "prod")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Options returns those of the server's bucket.
func Options(s *storage.Server) depot.BucketOptions {
	return depot.BucketOptions{
		URL: s.URL, Region: "us-east-1", Bucket: storage.Bucket, Prefix: "team",
		AccessKey: s.AccessKey, SecretKey: s.SecretKey, Authorities: s.Authorities,
	}
}

// Bucket returns a depot of the stack prod in a bucket of a server of the test's own.
func Bucket(t testing.TB) depot.Depot {
	t.Helper()
	b, err := depot.NewBucket(Options(storage.Start(t, "127.0.0.1")), "prod")
	if err != nil {
		t.Fatal(err)
	}
	return b
}
