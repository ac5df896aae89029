package stacks

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ParseBytes reads an amount of memory or disk: a whole number of Ki, Mi, Gi or Ti, such as 512Mi
// or 2Gi, as Kubernetes writes it. A number without a unit and decimal units (512, 1g, 1GB) are
// refused: they are read as different amounts by different tools.
func ParseBytes(s string) (Bytes, error) {
	for suffix, unit := range map[string]Bytes{"Ki": KiB, "Mi": MiB, "Gi": GiB, "Ti": GiB << 10} {
		digits, ok := strings.CutSuffix(s, suffix)
		if !ok {
			continue
		}

		n, err := strconv.ParseUint(digits, 10, 63)
		if err != nil || Bytes(n) > math.MaxInt64/unit {
			break
		}

		return Bytes(n) * unit, nil
	}

	return 0, fmt.Errorf("%q is no amount of memory: write a whole number of Ki, Mi, Gi or Ti, "+
		"like 512Mi or 2Gi",
		s)
}

// String writes b as ParseBytes reads it, in the largest unit that is exact.
func (b Bytes) String() string {
	for _, u := range []struct {
		suffix string
		unit   Bytes
	}{{"Ti", GiB << 10}, {"Gi", GiB}, {"Mi", MiB}, {"Ki", KiB}} {
		if b != 0 && b%u.unit == 0 {
			return strconv.FormatInt(int64(b/u.unit), 10) + u.suffix
		}
	}

	return strconv.FormatInt(int64(b), 10)
}

// ParseMilliCPU reads processor time: thousandths of a core with an m (500m) or cores with up to
// three decimals (1.5).
func ParseMilliCPU(s string) (MilliCPU, error) {
	bad := fmt.Errorf("%q is no amount of processor time: write thousandths of a core like 500m, "+
		"or cores like 1.5",
		s)
	if milli, ok := strings.CutSuffix(s, "m"); ok {
		n, err := strconv.ParseUint(milli, 10, 31)
		if err != nil {
			return 0, bad
		}
		return MilliCPU(n), nil
	}

	whole, fraction, _ := strings.Cut(s, ".")
	n, err := strconv.ParseUint(whole, 10, 20)
	if err != nil || len(fraction) > 3 || strings.HasSuffix(s, ".") {
		return 0, bad
	}

	f, err := strconv.ParseUint((fraction + "000")[:3], 10, 31)
	if err != nil {
		return 0, bad
	}

	return MilliCPU(n*1000 + f), nil
}

// String writes c as ParseMilliCPU reads it.
func (c MilliCPU) String() string { return strconv.FormatInt(int64(c), 10) + "m" }

// Cores writes c in cores, with as many decimals as it takes: 1.5.
func (c MilliCPU) Cores() string { return strconv.FormatFloat(float64(c)/1000, 'f', -1, 64) }
