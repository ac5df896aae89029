package manifest

import (
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
)

// Typed reads the object into the Go type of its kind, strictly: a field that the type has not is an error. Kinds that come
// from CustomResourceDefinitions (Gateway, HTTPRoute) have no type here and stay as they are.
func Typed(o *unstructured.Unstructured) (runtime.Object, error) {
	if !scheme.Scheme.Recognizes(o.GroupVersionKind()) {
		return o, nil
	}
	text, err := json.Marshal(o.Object)
	if err != nil {
		return nil, fmt.Errorf("manifest: %s %s: %w", o.GetKind(), o.GetName(), err)
	}
	codecs := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict)
	out, _, err := codecs.UniversalDeserializer().Decode(text, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("manifest: %s %s: %w", o.GetKind(), o.GetName(), err)
	}
	return out, nil
}
