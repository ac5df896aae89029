package authority_test

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks/authority"
)

var day = time.Date(2026, 11, 26, 15, 4, 5, 0, time.UTC)

func parse(t *testing.T, text string) authority.Authority {
	t.Helper()
	a, err := authority.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// trusts returns an error unless a service with the text trusts the service that has the other one.
func trusts(t *testing.T, text, other string, at time.Time, name string) error {
	t.Helper()
	pair := []byte(parse(t, other).Issue("gate"))
	cert, err := tls.X509KeyPair(pair, pair)
	if err != nil {
		t.Fatal(err)
	}

	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(parse(t, text).Trusted()))
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if _, err := cert.Leaf.Verify(x509.VerifyOptions{
			Roots: pool, CurrentTime: at, DNSName: name, KeyUsages: []x509.ExtKeyUsage{use},
		}); err != nil {
			return err
		}
	}

	return nil
}

func TestSameBytes(t *testing.T) {
	text := authority.New(day)
	a, b := parse(t, text), parse(t, text)
	if a.Trusted() != b.Trusted() || a.Issue("gate") != b.Issue("gate") {
		t.Error("the same text makes other certificates: no preview would be clean")
	}
	if a.Issue("gate") == a.Issue("backend") {
		t.Error("two services have one key")
	}
	if text == authority.New(day) {
		t.Error("two stacks have one authority")
	}
	if n := strings.Count(a.Trusted(), "BEGIN CERTIFICATE"); n != 3 {
		t.Errorf("%d authorities are trusted", n)
	}
	if a.String() != text {
		t.Error("the text is another one when it is written again")
	}
}

func TestTrust(t *testing.T) {
	first := authority.New(day)
	later, end := day.Add(300*24*time.Hour), day.Add(authority.Life)
	second, err := authority.Rotate(first, later)
	if err != nil {
		t.Fatal(err)
	}

	third, err := authority.Rotate(second, later)
	if err != nil {
		t.Fatal(err)
	}

	for name, tt := range map[string]struct {
		text, other string
		at          time.Time
		name        string
		want        bool
	}{
		"itself":                      {first, first, day, "gate", true},
		"before the rotation, after":  {first, second, later, "gate", true},
		"after the rotation, before":  {second, first, later, "gate", true},
		"two rotations, old by new":   {third, first, later, "gate", false},
		"two rotations, new by old":   {first, third, later, "gate", false},
		"another name":                {first, first, day, "ml", false},
		"another stack":               {first, authority.New(day), day, "gate", false},
		"a clock that is behind":      {first, first, day.Add(-20 * time.Hour), "gate", true},
		"long before":                 {first, first, day.Add(-72 * time.Hour), "gate", false},
		"the last day":                {first, first, end.Add(-24 * time.Hour), "gate", true},
		"expired":                     {first, first, end.Add(time.Hour), "gate", false},
		"expired, but for a rotation": {second, second, end.Add(time.Hour), "gate", true},
	} {
		if err := trusts(t, tt.text, tt.other, tt.at, tt.name); (err == nil) != tt.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParse(t *testing.T) {
	good := authority.New(day)
	words := strings.Fields(good)
	for name, text := range map[string]string{
		"nothing":    "",
		"a password": "correct-horse",
		"no day":     strings.Replace(good, words[0], "yesterday", 1),
		"two seeds":  strings.Join(words[:3], " "),
		"short seed": good[:len(good)-4],
		"no hex":     strings.Replace(good, words[2], strings.Repeat("x", 64), 1),
	} {
		_, err := authority.Parse(text)
		if err == nil || !strings.HasPrefix(err.Error(), "is no authority: ") {
			t.Errorf("%s: %v", name, err)
		}
		for _, seed := range words[1:] {
			if err != nil && strings.Contains(err.Error(), seed) {
				t.Errorf("%s: the error shows a seed: %v", name, err)
			}
		}
	}

	if a := parse(t, good+"\n"); !a.Expires().Equal(
		time.Date(2028, 11, 25, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("it expires %s", a.Expires())
	}
	if _, err := authority.Rotate("x", day); err == nil {
		t.Error("no authority is rotated")
	}
}
