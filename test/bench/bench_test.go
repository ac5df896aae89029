package main

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"math"
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, tc := range []struct {
		in   []float64
		want float64
	}{{[]float64{3, 1, 2}, 2}, {[]float64{4, 1, 3, 2}, 2.5}, {[]float64{7}, 7}, {nil, 0}} {
		if got := median(tc.in); got != tc.want {
			t.Errorf("median(%v) = %v, want %v", tc.in, got, tc.want)
		}
	}
}

func TestReport(t *testing.T) {
	r := newReport(3)
	r.Versions["docker compose"] = "v2"
	tab := r.table("Provisioning, dev stack",
		strings.Repeat("a note that is longer than a line ", 6), "codexctl", "compose", "ratio",
		"pulumi")
	for _, d := range []time.Duration{9 * time.Second, 3 * time.Second, 4 * time.Second} {
		tab.row("up").addTime("codexctl", seconds, d)
		tab.row("up").addTime("compose", seconds, d/2)
	}

	tab.row("down").addTime("codexctl", seconds, time.Second)
	tab.compare("ratio", "codexctl", "compose")
	if c := tab.row("up").Cells["ratio"]; c == nil || math.Abs(c.Value-2) > 1e-9 {
		t.Errorf("ratio of up: %v, want 2.00x", c)
	}
	if c := tab.row("down").Cells["ratio"]; c != nil {
		t.Errorf("ratio without a peer's figure: %v", c)
	}

	var out bytes.Buffer
	if err := r.print(&out); err != nil {
		t.Fatal(err)
	}

	for _, want := range []string{"4.00 s", "2.00x", "docker compose   v2"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, out.String())
		}
	}

	for line := range strings.Lines(out.String()) {
		if len(strings.TrimRight(line, "\n")) > width {
			t.Errorf("wider than %d: %s", width, line)
		}
	}
}

func TestCellUnits(t *testing.T) {
	for _, tc := range []struct {
		c    *cell
		want string
	}{{nil, "-"}, {&cell{Value: 15.2e6, Unit: bytesUnit}, "15.2 MB"},
		{&cell{Value: 12.34, Unit: milliseconds}, "12.3 ms"},
		{&cell{Value: 205.4, Unit: microseconds}, "205 us"},
		{&cell{Value: 90.4, Unit: kilobytes}, "90 kB"},
		{&cell{Value: 1.5, Unit: seconds}, "1.50 s"}} {
		if got := tc.c.String(); got != tc.want {
			t.Errorf("%+v: %q, want %q", tc.c, got, tc.want)
		}
	}
}

func TestStreamLines(t *testing.T) {
	for _, tc := range []struct {
		name       string
		line       func([]byte) (bool, bool, error)
		in         string
		text, done bool
		err        string
	}{
		{"ollama text", ollamaLine, `{"message":{"role":"assistant","content":"a"},"done":false}`, true, false, ""},
		{"ollama end", ollamaLine, `{"message":{"role":"assistant","content":""},"done":true}`, false, true, ""},
		{"ollama error", ollamaLine, `{"error":"no such model"}`, false, false, "no such model"},
		{"ml queue", mlLine, `{"queue":2}`, false, false, ""},
		{"ml text", mlLine, `{"text":"a"}`, true, false, ""},
		{"ml end", mlLine, `{"done":{"model":"m","reason":"length","tokens":400}}`, false, true, ""},
		{"ml error", mlLine, `{"error":{"title":"x","detail":"ollama went away"}}`, false, false, "ollama went away"},
		{"ml broken", mlLine, `{"text":`, false, false, "unexpected end"},
		{"event start", eventLine, "event: start", false, false, ""},
		{"event text", eventLine, "event: delta", true, false, ""},
		{"event data", eventLine, `data: {"text":"event: done"}`, false, false, ""},
		{"event end", eventLine, "event: done", false, true, ""},
		{"event error", eventLine, "event: error", false, false, "event error"},
		{"event stopped", eventLine, "event: stopped", false, false, "event stopped"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text, done, err := tc.line([]byte(tc.in))
			if tc.err == "" && err != nil ||
				tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Fatalf("error %v, want %q", err, tc.err)
			}

			if text != tc.text || done != tc.done {
				t.Errorf("text %v, done %v; want %v, %v", text, done, tc.text, tc.done)
			}
		})
	}
}

func TestArguments(t *testing.T) {
	for _, args := range [][]string{
		{"-n", "0"}, {"-sections", "hops,lunch"}, {"-overlays", "healthcare"}, {"extra"}, {"-x"},
	} {
		if err := run(t.Context(), args, nil, io.Discard, io.Discard); err == nil {
			t.Errorf("%v: no error", args)
		}
	}

	if err := run(t.Context(), []string{"-h"}, nil, io.Discard, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
}

// TestAbsentPeers checks that a section without its peers is skipped with a reason, and that
// -require makes that an error.
func TestAbsentPeers(t *testing.T) {
	empty := []string{"PATH=" + t.TempDir(), "HOME=" + t.TempDir()}
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-n", "1"}, empty, &out, io.Discard); err != nil {
		t.Fatal(err)
	}

	for _, s := range sections {
		if !strings.Contains(out.String(), "\n"+s+": skipped: ") {
			t.Errorf("%s was not skipped:\n%s", s, out.String())
		}
	}

	var absent absentError
	if err := run(t.Context(), []string{"-n", "1", "-require"}, empty, io.Discard,
		io.Discard); !errors.As(err, &absent) {
		t.Errorf("-require: %v, want what is absent", err)
	}
}
