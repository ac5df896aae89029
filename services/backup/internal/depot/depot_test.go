package depot_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backup/internal/depot"
	"github.com/codexcontinue/codexcontinue/services/backup/internal/depottest"
	"github.com/codexcontinue/codexcontinue/test/storage"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// failing reads a text, and then fails.
type failing struct{ io.Reader }

var errBroken = errors.New("the source broke")

func (f failing) Read(b []byte) (int, error) {
	n, err := f.Reader.Read(b)
	if errors.Is(err, io.EOF) {
		err = errBroken
	}
	return n, err
}

// TestDepot writes, replaces, reads, lists and removes files, of which some take several parts.
func TestDepot(t *testing.T) {
	for name, open := range map[string]func(testing.TB) depot.Depot{
		"directory": depottest.Directory, "bucket": depottest.Bucket,
	} {
		t.Run(name, func(t *testing.T) {
			ctx, d := t.Context(), open(t)
			large := bytes.Repeat([]byte("0123456789abcdef"), 33<<16) // 33 MiB
			for name, content := range map[string][]byte{"large": large, "empty": {}, "small": []byte("x")} {
				if err := d.Create(ctx, name, bytes.NewReader(content)); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				f, err := d.Open(ctx, name)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				got, err := io.ReadAll(f)
				if err != nil || !bytes.Equal(got, content) {
					t.Errorf("%s has %d bytes, %v", name, len(got), err)
				}
				f.Close()
			}

			if err := d.Create(ctx, "small", strings.NewReader("y")); err != nil {
				t.Fatal(err)
			}
			for _, content := range []io.Reader{
				failing{strings.NewReader("half of it")}, failing{bytes.NewReader(large)},
			} {
				if err := d.Create(ctx, "broken", content); !errors.Is(err, errBroken) {
					t.Errorf("a source that fails: %v", err)
				}
			}
			if _, err := d.Open(ctx, "broken"); !errors.Is(err, depot.ErrNotFound) {
				t.Errorf("what broke: %v", err)
			}

			files, err := d.List(ctx)
			slices.SortFunc(files, func(a, b depot.File) int { return strings.Compare(a.Name, b.Name) })
			want := []depot.File{{Name: "empty"}, {Name: "large", Size: 33 << 20}, {Name: "small", Size: 1}}
			if err != nil || !slices.Equal(files, want) {
				t.Errorf("there are %v, %v", files, err)
			}
			for range 2 {
				if err := d.Remove(ctx, "large"); err != nil {
					t.Error(err)
				}
			}
			if files, err := d.List(ctx); len(files) != 2 {
				t.Errorf("there are %v, %v", files, err)
			}
		})
	}
}

// TestBucketRefused says what is wrong with the settings.
func TestBucketRefused(t *testing.T) {
	s := storage.Start(t, "127.0.0.1")
	for name, tt := range map[string]struct {
		change func(*depot.BucketOptions)
		want   string
	}{
		"key":       {func(o *depot.BucketOptions) { o.AccessKey = "other" }, "correct backup.s3.accessKey"},
		"secret":    {func(o *depot.BucketOptions) { o.SecretKey = "other" }, "backupSecretKey"},
		"bucket":    {func(o *depot.BucketOptions) { o.Bucket = "other" }, "make it, or correct backup.s3.bucket"},
		"authority": {func(o *depot.BucketOptions) { o.Authorities = nil }, "certificate"},
		"nobody":    {func(o *depot.BucketOptions) { o.URL = "https://127.0.0.1:1" }, "refused"},
	} {
		o := depottest.Options(s)
		tt.change(&o)
		b, err := depot.NewBucket(o, "prod")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		_, err = b.List(ctx)
		cancel()
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), s.SecretKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBucketCleaned: of the uploads that nobody ended the old ones go, and those of the stack alone.
func TestBucketCleaned(t *testing.T) {
	s := storage.Start(t, "127.0.0.1")
	b, err := depot.NewBucket(depottest.Options(s), "prod")
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	core, err := minio.NewCore(strings.TrimPrefix(s.URL, "https://"), &minio.Options{
		Creds: credentials.NewStaticV4(s.AccessKey, s.SecretKey, ""), Secure: true, Region: "us-east-1",
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.Authorities}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"team/prod/a", "team/prod/b", "team/prod/b/c", "team/production/a"} {
		id, err := core.NewMultipartUpload(ctx, storage.Bucket, name, minio.PutObjectOptions{})
		if err == nil {
			_, err = core.PutObjectPart(ctx, storage.Bucket, name, id, 1, strings.NewReader("half"), 4,
				minio.PutObjectPartOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}

	left := func(want ...string) {
		t.Helper()
		var got []string
		for u := range core.ListIncompleteUploads(ctx, storage.Bucket, "", true) {
			if u.Err != nil {
				t.Fatal(u.Err)
			}
			got = append(got, u.Key)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("left are %q, want %q", got, want)
		}
	}
	if err := b.Clean(ctx, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	left("team/prod/a", "team/prod/b", "team/prod/b/c", "team/production/a")
	if err := b.Clean(ctx, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	left("team/prod/b/c", "team/production/a")
}

// TestDirectory: a directory that is not there is refused, and what was left unfinished goes.
func TestDirectory(t *testing.T) {
	root := t.TempDir()
	if _, err := depot.NewDirectory(filepath.Join(root, "none"), "prod"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}

	d, err := depot.NewDirectory(root, "prod")
	if err != nil {
		t.Fatal(err)
	}
	for name, age := range map[string]time.Duration{".unfinished-1": 48 * time.Hour, ".unfinished-2": 0} {
		path := filepath.Join(root, "prod", name)
		at := time.Now().Add(-age)
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chtimes(path, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Clean(t.Context(), time.Now().Add(-24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(root, "prod", ".unfinished-*"))
	if err != nil || len(left) != 1 || filepath.Base(left[0]) != ".unfinished-2" {
		t.Errorf("left are %q, %v", left, err)
	}
	if info, err := os.Stat(filepath.Join(root, "prod")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}
