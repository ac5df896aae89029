package archive

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
)

func identity(t testing.TB) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// made returns a backup with the parts, for the identity.
func made(t testing.TB, id *age.X25519Identity, parts map[string][]byte) ([]byte, Summary) {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, []age.Recipient{id.Recipient()})
	if err != nil {
		t.Fatal(err)
	}

	for _, name := range []string{Redis, Documents, Models} {
		content, ok := parts[name]
		if !ok {
			continue
		}
		err := w.Part(name, func(to io.Writer) error {
			_, err := io.Copy(to, iotestReader{bytes.NewReader(content)})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}

	s, err := w.Close(Manifest{Stack: "prod", Begun: time.Unix(1, 0).UTC()})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), s
}

// iotestReader hides what else the reader can do, so that io.Copy hands over 32 KiB at a time.
type iotestReader struct{ io.Reader }

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// TestRoundTrip: parts of any size come back, in their order, whatever of them is read.
func TestRoundTrip(t *testing.T) {
	id := identity(t)
	parts := map[string][]byte{
		Redis: random(2*pieceSize + 1), Documents: {}, Models: random(pieceSize),
	}
	sealed, summary := made(t, id, parts)
	if summary.Bytes != int64(len(sealed)) || summary.Stack != "prod" || summary.Check() != nil {
		t.Errorf("summary %+v", summary)
	}

	got := map[string][]byte{}
	m, err := Read(bytes.NewReader(sealed), []age.Identity{id},
		func(name string, content io.Reader) (err error) {
			got[name], err = io.ReadAll(content)
			return err
		})
	if err != nil {
		t.Fatal(err)
	}
	if !maps.EqualFunc(got, parts, bytes.Equal) {
		t.Error("the parts are others")
	}
	if p, ok := m.Part(Redis); !ok || p.Bytes != int64(len(parts[Redis])) || len(m.Parts) != 3 {
		t.Errorf("manifest %+v", m)
	}

	skipped, err := Read(bytes.NewReader(sealed), []age.Identity{id},
		func(string, io.Reader) error { return nil })
	if err != nil || !cmp.Equal(m, skipped) {
		t.Errorf("with nothing read: %v, %v", skipped, err)
	}

	stop := errors.New("stop")
	_, err = Read(bytes.NewReader(sealed), []age.Identity{id},
		func(string, io.Reader) error { return stop })
	if !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
}

// TestSealed: nobody reads a backup but who has an identity, and nothing of it is in the clear.
func TestSealed(t *testing.T) {
	id := identity(t)
	const secret = "what somebody wrote"
	sealed, _ := made(t, id, map[string][]byte{Redis: []byte(secret)})
	if bytes.Contains(sealed, []byte(secret)) || bytes.Contains(sealed, []byte(manifestName)) {
		t.Error("it can be read")
	}
	_, err := Read(bytes.NewReader(sealed), []age.Identity{identity(t)}, nil)
	if err == nil || !strings.HasPrefix(err.Error(), "decrypt: ") {
		t.Errorf("another identity: %v", err)
	}
}

// TestDamaged: a byte that is another one, or missing, is found, wherever it is.
func TestDamaged(t *testing.T) {
	id := identity(t)
	sealed, _ := made(t, id, map[string][]byte{Redis: random(200_000), Models: []byte("{}")})
	read := func(b []byte) error {
		_, err := Read(bytes.NewReader(b), []age.Identity{id},
			func(string, io.Reader) error { return nil })
		return err
	}

	for at := 0; at < len(sealed); at += len(sealed)/50 + 1 {
		if err := read(sealed[:at]); err == nil {
			t.Errorf("it is cut at %d", at)
		}
		changed := bytes.Clone(sealed)
		changed[at] ^= 1
		if err := read(changed); err == nil {
			t.Errorf("byte %d was changed", at)
		}
	}
	if err := read(sealed); err != nil {
		t.Error(err)
	}
}

// TestForm refuses what a program makes that is encrypted to the right recipient, and is no backup.
func TestForm(t *testing.T) {
	id := identity(t)
	type entry struct{ name, content string }
	const one = `{"name":"redis","bytes":1,"sha256":` +
		`"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"}`
	manifest := func(parts string) entry {
		return entry{manifestName, `{"format":1,"data":1,"parts":[` + parts + `]}`}
	}
	for name, tt := range map[string]struct {
		entries []entry
		want    string
	}{
		"good":          {[]entry{{"redis/00000000", "a"}, manifest(one)}, ""},
		"nothing":       {nil, "it is cut"},
		"no manifest":   {[]entry{{"redis/00000000", "a"}}, "it is cut"},
		"another piece": {[]entry{{"redis/00000001", "a"}, manifest(one)}, "is not its first piece"},
		"a gap":         {[]entry{{"redis/00000000", "a"}, {"redis/00000002", "b"}}, "not its first piece"},
		"one more":      {[]entry{{"redis/00000000", "a"}, manifest(one + "," + one)}, "has 1 parts"},
		"one less":      {[]entry{{"redis/00000000", "a"}, manifest("")}, "has 1 parts"},
		"another":       {[]entry{{"redis/00000000", "b"}, manifest(one)}, "is not what its manifest says"},
		"an end": {[]entry{{"redis/00000000", "a"}, manifest(one), {"x/00000000", ""}},
			"something follows it"},
		"no JSON": {[]entry{{manifestName, "x"}}, "invalid character"},
		"newer":   {[]entry{{manifestName, `{"format":2,"data":1}`}}, "it is of a newer release"},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			sealed, err := age.Encrypt(&b, id.Recipient())
			if err != nil {
				t.Fatal(err)
			}
			w := tar.NewWriter(sealed)
			for _, e := range tt.entries {
				err := errors.Join(w.WriteHeader(&tar.Header{Name: e.name, Size: int64(len(e.content)),
					Typeflag: tar.TypeReg}))
				if err == nil {
					_, err = io.WriteString(w, e.content)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(w.Close(), sealed.Close()); err != nil {
				t.Fatal(err)
			}

			_, err = Read(&b, []age.Identity{id}, func(string, io.Reader) error { return nil })
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// TestVersions: a release takes its own data, and those of the release before.
func TestVersions(t *testing.T) {
	for _, tt := range []struct {
		format, data int
		want         string
	}{
		{1, 3, ""},
		{2, 3, ""},
		{2, 2, ""},
		{2, 1, "it is too old"},
		{0, 3, "it is too old"},
		{3, 3, "it is of a newer release"},
		{2, 4, "it is of a newer release"},
	} {
		err := check(tt.format, tt.data, 2, 3)
		if (err == nil) != (tt.want == "") || err != nil && !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("format %d, data %d: %v", tt.format, tt.data, err)
		}
	}
}

// TestNames reads back the names of files.
func TestNames(t *testing.T) {
	at := time.Date(2026, 11, 26, 3, 0, 0, 7e6, time.UTC)
	name := Name(at)
	for file, want := range map[string]Kind{
		File(name): Sealed, SummaryFile(name): Sum, ErasuresFile(at): Gone, StateFile(at): Settings,
	} {
		if kind, _, got := Parse(file); kind != want || !got.Equal(at) {
			t.Errorf("%s is of kind %d, %s", file, kind, got)
		}
	}

	sum := strings.Repeat("0a", 32)
	for file, want := range map[string]Kind{
		WeightsFile(sum): Weights, WeightsSummaryFile(sum): WeightsSum, NeedFile(at, sum): Need,
	} {
		kind, got, when := Parse(file)
		if kind != want || got != sum || kind == Need && !when.Equal(at) || CheckSum(got) != nil {
			t.Errorf("%s is of kind %d, %s, %s", file, kind, got, when)
		}
	}
	for _, wrong := range []string{"", "x", sum[1:], sum + "00", strings.ToUpper(sum), "../" + sum[3:]} {
		for _, file := range []string{WeightsFile(wrong), WeightsSummaryFile(wrong), NeedFile(at, wrong)} {
			if kind, _, _ := Parse(file); kind != Other || CheckSum(wrong) == nil {
				t.Errorf("%s is of kind %d", file, kind)
			}
		}
	}

	if CheckName(name) != nil {
		t.Errorf("%s is refused", name)
	}
	for _, wrong := range []string{"", "x", "backup-x", "../" + name, File(name), name + "/"} {
		if CheckName(wrong) == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
}

// TestJSON seals JSON, and finds a missing end.
func TestJSON(t *testing.T) {
	id := identity(t)
	want := []auditlog.Record{{ID: "a", Action: "erase", Object: strings.Repeat("x", 100_000)}}
	var b bytes.Buffer
	if err := SealJSON(&b, []age.Recipient{id.Recipient()}, want); err != nil {
		t.Fatal(err)
	}
	sealed := b.Bytes()
	var got []auditlog.Record
	err := OpenJSON(bytes.NewReader(sealed), []age.Identity{id}, &got)
	if err != nil || !cmp.Equal(got, want) {
		t.Errorf("%v, %v", len(got), err)
	}
	for _, n := range []int{0, 10, 300, len(sealed) - 1} {
		if OpenJSON(bytes.NewReader(sealed[:n]), []age.Identity{id}, &json.RawMessage{}) == nil {
			t.Errorf("%d bytes are taken", n)
		}
	}
}

// TestWeights seals weights, which none but the identity reads, and takes no others.
func TestWeights(t *testing.T) {
	id := identity(t)
	content := bytes.Repeat([]byte("weights"), 100_000)
	sum := fmt.Sprintf("%x", sha256.Sum256(content))
	var b bytes.Buffer
	s, err := SealWeights(&b, []age.Recipient{id.Recipient()}, sum, bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	sealed := b.Bytes()
	if s.Bytes != int64(len(sealed)) || s.SHA256 != fmt.Sprintf("%x", sha256.Sum256(sealed)) ||
		bytes.Contains(sealed, []byte("weights")) {
		t.Errorf("%+v, of %d bytes", s, len(sealed))
	}

	var got bytes.Buffer
	ids := []age.Identity{id}
	if err := OpenWeights(&got, ids, sum, bytes.NewReader(sealed)); err != nil ||
		!bytes.Equal(got.Bytes(), content) {
		t.Errorf("%d bytes, %v", got.Len(), err)
	}
	for _, n := range []int{0, 10, 300, len(sealed) - 1} {
		if OpenWeights(io.Discard, ids, sum, bytes.NewReader(sealed[:n])) == nil {
			t.Errorf("%d bytes are taken", n)
		}
	}
	other := strings.Repeat("00", 32)
	if err := OpenWeights(io.Discard, ids, other, bytes.NewReader(sealed)); err == nil ||
		!strings.Contains(err.Error(), "other weights") {
		t.Errorf("of another SHA-256: %v", err)
	}
	if OpenWeights(io.Discard, []age.Identity{identity(t)}, sum, bytes.NewReader(sealed)) == nil {
		t.Error("another identity reads them")
	}
	if _, err := SealWeights(io.Discard, []age.Recipient{id.Recipient()}, sum,
		bytes.NewReader(content[1:])); err == nil {
		t.Error("other weights are taken")
	}
}
