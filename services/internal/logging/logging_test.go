package logging_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/internal/logging"
)

func TestRequestIDIsOnEveryLine(t *testing.T) {
	var out bytes.Buffer
	log := logging.New(&out, "backend", "info", false)
	ctx := logging.WithRequestID(context.Background(), "id-1")
	for _, l := range []*slog.Logger{log, log.With("a", 1)} {
		out.Reset()
		l.InfoContext(ctx, "hello", "b", 2)
		var rec map[string]any
		if err := json.Unmarshal(out.Bytes(), &rec); err != nil {
			t.Fatal(err)
		}

		if rec["request_id"] != "id-1" || rec["service"] != "backend" || rec["msg"] != "hello" ||
			rec["b"] != 2.0 {
			t.Errorf("%v", rec)
		}
	}

	out.Reset()
	log.Info("no request")
	if bytes.Contains(out.Bytes(), []byte("request_id")) {
		t.Errorf("%s", out.Bytes())
	}
}

func TestLevels(t *testing.T) {
	for _, tc := range []struct {
		level string
		debug bool
		want  slog.Level
	}{
		{"debug", false, slog.LevelDebug}, {"info", false, slog.LevelInfo},
		{"WARN", false, slog.LevelWarn}, {"error", false, slog.LevelError},
		{"error", true, slog.LevelDebug},
	} {
		log := logging.New(&bytes.Buffer{}, "x", tc.level, tc.debug)
		if !log.Enabled(context.Background(), tc.want) ||
			log.Enabled(context.Background(), tc.want-1) {
			t.Errorf("%s, debug %v: not %s", tc.level, tc.debug, tc.want)
		}
	}
}
