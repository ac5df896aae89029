package depot

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// partSize is how much of a file is sent, and held in memory, at once. S3 takes 10,000 such parts:
// a backup has 156 GiB at most.
const partSize = 16 << 20

// BucketOptions are where a bucket is, and who uses it.
type BucketOptions struct {
	// URL is that of the storage, https://host[:port], and Region the one that requests are signed
	// for. Prefix is where in the bucket the files lie.
	URL, Region, Bucket, Prefix string

	AccessKey, SecretKey string

	// Authorities sign the storage's certificate; nil are those of the system. Proxy is asked for a
	// way there; nil is none.
	Authorities *x509.CertPool
	Proxy       *url.URL
}

// Bucket is a Depot in a bucket of S3.
type Bucket struct {
	client         *minio.Client
	bucket, prefix string
	at             string
}

// NewBucket returns the depot of the stack in the bucket. It does not connect.
func NewBucket(o BucketOptions, stack string) (*Bucket, error) {
	u, err := url.Parse(o.URL)
	if err != nil {
		return nil, err
	}

	transport := &http.Transport{
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.Authorities},
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 2 * time.Minute, // of what puts parts together
		ExpectContinueTimeout: time.Second,
		IdleConnTimeout:       time.Minute,
		DisableCompression:    true,
	}
	if o.Proxy != nil {
		transport.Proxy = http.ProxyURL(o.Proxy)
	}

	client, err := minio.New(u.Host, &minio.Options{
		Creds:        credentials.NewStaticV4(o.AccessKey, o.SecretKey, ""),
		Secure:       u.Scheme == "https",
		Region:       o.Region,
		BucketLookup: minio.BucketLookupPath,
		Transport:    transport,
	})
	if err != nil {
		return nil, err
	}

	prefix := path.Join(o.Prefix, stack) + "/"
	return &Bucket{client, o.Bucket, prefix, fmt.Sprintf("%s/%s/%s", o.URL, o.Bucket, prefix)}, nil
}

func (b *Bucket) String() string { return b.at }

// List implements Depot.
func (b *Bucket) List(ctx context.Context) ([]File, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var files []File
	for o := range b.client.ListObjects(ctx, b.bucket, minio.ListObjectsOptions{Prefix: b.prefix}) {
		if o.Err != nil {
			return nil, b.explain(o.Err)
		}
		name := strings.TrimPrefix(o.Key, b.prefix)
		if name != "" && !strings.Contains(name, "/") {
			files = append(files, File{name, o.Size})
		}
	}
	return files, nil
}

// Create implements Depot.
func (b *Bucket) Create(ctx context.Context, name string, content io.Reader) error {
	_, err := b.client.PutObject(ctx, b.bucket, b.prefix+name, content, -1, minio.PutObjectOptions{
		ContentType: "application/octet-stream", PartSize: partSize,
	})
	return b.explain(err)
}

// Open implements Depot.
func (b *Bucket) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	o, err := b.client.GetObject(ctx, b.bucket, b.prefix+name, minio.GetObjectOptions{})
	if err != nil {
		return nil, b.explain(err)
	}
	if _, err := o.Stat(); err != nil { // only this asks the storage
		_ = o.Close()
		return nil, b.explain(err)
	}
	return o, nil
}

// Remove implements Depot.
func (b *Bucket) Remove(ctx context.Context, name string) error {
	return b.explain(b.client.RemoveObject(ctx, b.bucket, b.prefix+name, minio.RemoveObjectOptions{}))
}

// Clean implements Depot. A storage keeps the parts of an upload that nobody ends, and lists no file.
func (b *Bucket) Clean(ctx context.Context, before time.Time) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	core := minio.Core{Client: b.client}
	for u := range b.client.ListIncompleteUploads(ctx, b.bucket, b.prefix, true) {
		if u.Err != nil {
			return b.explain(u.Err)
		}
		if strings.Contains(strings.TrimPrefix(u.Key, b.prefix), "/") || !u.Initiated.Before(before) {
			continue
		}
		err := core.AbortMultipartUpload(ctx, b.bucket, u.Key, u.UploadID)
		if err != nil && minio.ToErrorResponse(err).Code != "NoSuchUpload" { // it has just ended
			return b.explain(err)
		}
	}
	return nil
}

// explain returns the error with where the bucket is, and what to do.
func (b *Bucket) explain(err error) error {
	if err == nil {
		return nil
	}

	todo := ""
	switch said := minio.ToErrorResponse(err); {
	case said.Code == "NoSuchKey":
		return ErrNotFound
	case said.Code == "NoSuchBucket":
		todo = ": make it, or correct backup.s3.bucket"
	case said.StatusCode == http.StatusForbidden, strings.HasSuffix(said.Code, "UserNotFound"):
		todo = ": correct backup.s3.accessKey, the secret backupSecretKey or backup.s3.region, or " +
			"let the key list, read, write and remove there, and list and abort uploads"
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%s: %w%s", b.at, err, todo)
}
