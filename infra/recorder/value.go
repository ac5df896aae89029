package recorder

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	"google.golang.org/protobuf/proto"
)

// Path returns the path of a property: keys with dots between them, indexes in brackets. A key that
// would not read back is quoted.
func Path(parent string, key any) string {
	switch key := key.(type) {
	case int:
		return parent + "[" + strconv.Itoa(key) + "]"
	case string:
		if key == "" || strings.ContainsAny(key, `.[]"`) {
			return parent + "[" + strconv.Quote(key) + "]"
		}
		if parent == "" {
			return key
		}
		return parent + "." + key
	}

	panic("recorder: a path is made of strings and numbers")
}

// reader reads the values of a resource as JSON values, and keeps the fingerprints of its secrets.
type reader struct {
	key          []byte
	fingerprints map[string]string
}

// object returns the properties but those that are null: for the engine they are absent.
func (r *reader) object(path string, m resource.PropertyMap) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		if !v.IsNull() {
			out[string(k)] = r.value(Path(path, string(k)), v)
		}
	}
	return out
}

func (r *reader) value(path string, v resource.PropertyValue) any {
	switch {
	case v.IsSecret():
		r.fingerprint(path, v.SecretValue().Element)
		return Secret
	case v.IsOutput() && v.OutputValue().Secret:
		r.fingerprint(path, v.OutputValue().Element)
		return Secret
	case v.IsOutput() && v.OutputValue().Known:
		return r.value(path, v.OutputValue().Element)
	case v.IsComputed(), v.IsOutput():
		return Computed
	case v.IsResourceReference():
		return shortURN(string(v.ResourceReferenceValue().URN))
	case v.IsAsset():
		return map[string]any{"asset": v.AssetValue().Hash}
	case v.IsArchive():
		return map[string]any{"archive": v.ArchiveValue().Hash}
	case v.IsArray():
		out := []any{}
		for i, e := range v.ArrayValue() {
			out = append(out, r.value(Path(path, i), e))
		}
		return out
	case v.IsObject():
		return r.object(path, v.ObjectValue())
	}

	return v.V
}

// fingerprint keeps what distinguishes the secret from others, and nothing else: its HMAC-SHA256.
// What holds something unknown has no identity before it is provisioned, and so no fingerprint.
func (r *reader) fingerprint(path string, v resource.PropertyValue) {
	if r.key == nil || v.ContainsUnknowns() {
		return
	}

	mac := hmac.New(sha256.New, r.key)
	// The wire form distinguishes "1" from 1, and a deterministic one has sorted keys.
	wire, err := plugin.MarshalPropertyValue("", v, keepAll)
	if err != nil {
		return
	}

	text, err := proto.MarshalOptions{Deterministic: true}.Marshal(wire)
	if err != nil {
		return
	}

	mac.Write(text)
	if r.fingerprints == nil {
		r.fingerprints = map[string]string{}
	}

	r.fingerprints[path] = hex.EncodeToString(mac.Sum(nil)[:16])
}
