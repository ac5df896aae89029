package contract

import (
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Render returns the variables that make Parse return what cfg points to. An optional field that is
// empty is left out, so that the container's environment shows only what is in force.
func Render(cfg Environment) (map[string]string, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}

	out := map[string]string{}
	if err := render(reflect.ValueOf(cfg).Elem(), out); err != nil {
		return nil, err
	}

	return out, nil
}

// Environ returns the variables of Render as os.Environ does, in the order of their names.
func Environ(cfg Environment) ([]string, error) {
	vars, err := Render(cfg)
	if err != nil {
		return nil, err
	}

	var out []string
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		out = append(out, name+"="+vars[name])
	}
	return out, nil
}

func render(v reflect.Value, out map[string]string) error {
	for i := range v.NumField() {
		f, fv := v.Type().Field(i), v.Field(i)
		if f.Anonymous && fv.Kind() == reflect.Struct {
			if err := render(fv, out); err != nil {
				return err
			}
			continue
		}

		name, options, _ := strings.Cut(f.Tag.Get("env"), ",")
		if name == "" {
			return fmt.Errorf("contract: field %s.%s has no env tag", v.Type().Name(), f.Name)
		}
		if _, dup := out[name]; dup {
			return fmt.Errorf("contract: %s is named twice", name)
		}

		if f.Tag.Get("optional") == "true" && fv.IsZero() {
			continue
		}
		if fv.IsZero() && slices.Contains(strings.Split(options, ","), "notEmpty") {
			return fmt.Errorf("%s: is empty", name)
		}

		switch x := fv.Interface().(type) {
		case []string:
			out[name] = strings.Join(x, ",")
		case fmt.Stringer: // time.Duration
			out[name] = x.String()
		case encoding.TextMarshaler:
			b, err := x.MarshalText()
			if err != nil {
				return fmt.Errorf("contract: %s: %w", name, err)
			}
			out[name] = string(b)
		default:
			out[name] = fmt.Sprint(x)
		}
	}

	return nil
}
