package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/deploy"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/progress"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/pulumicli"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

// TestRollback runs the command with the real Pulumi CLI, its history and its preview by the docker
// provider. The engine is the scripts' own: it has images, and provisions nothing.
func TestRollback(t *testing.T) {
	peers.Find(t, "pulumi", "pulumi")
	peers.DockerPlugin(t)
	runScripts(t, "testdata/rollback")
}

// release adds an up of codexctl to the history of a stack, made with its settings as they are, which
// provisions nothing. With ! it is one that fails:
//
//	release STACK REVISION MODEL [SERVICE=IMAGE | SERVICE:FORMAT]... [--ended=RESULT] [--rollback=N]
func release(ts *testscript.TestScript, fails bool, args []string) {
	ctx, stack, root := context.Background(), args[0], ts.Getenv("PROJECT")
	var env []string
	for _, name := range []string{
		"PATH", "HOME", "PULUMI_HOME", "PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE",
	} {
		env = append(env, name+"="+ts.Getenv(name))
	}

	command, err := pulumicli.Finder{
		Root: root, CacheDir: ts.Getenv("XDG_CACHE_HOME"), Environ: env, Say: ts.Logf,
	}.Get(ctx)
	ts.Check(err)

	s, err := deploy.Open(ctx, deploy.Options{
		Root: root, Stack: stack, Command: command, Create: true,
		Program: func(*pulumi.Context) error {
			if fails {
				return errors.New("it fails")
			}
			return nil
		},
	})
	ts.Check(err)

	file := filepath.Join(root, "Pulumi."+stack+".yaml")
	text, err := os.ReadFile(file)
	ts.Check(err)
	if !bytes.Contains(text, []byte("redisPassword:")) {
		ts.Check(s.SetSecret(ctx, "codexcontinue:redisPassword", "correct-horse-battery-staple"))
		text, err = os.ReadFile(file)
		ts.Check(err)
	}

	sum := sha256.Sum256(text)
	r := deploy.Release{
		By: "carol", Revision: args[1], Model: args[2], Settings: hex.EncodeToString(sum[:]),
		Images: map[string]string{}, Data: map[string]int{},
	}
	var ended string
	for _, arg := range args[3:] {
		if result, ok := strings.CutPrefix(arg, "--ended="); ok {
			r.ID, ended = rand.Text(), result
			continue
		}
		if number, ok := strings.CutPrefix(arg, "--rollback="); ok {
			r.Rollback, err = strconv.Atoi(number)
			ts.Check(err)
			continue
		}
		if service, image, ok := strings.Cut(arg, "="); ok {
			r.Images[service] = image
			continue
		}
		service, format, _ := strings.Cut(arg, ":")
		r.Data[service], err = strconv.Atoi(format)
		ts.Check(err)
	}

	out := console.New(&bytes.Buffer{}, func(string) string { return "" })
	_, err = s.Up(ctx, progress.Quiet(out, time.Now), r, false)
	if fails != (err != nil) {
		ts.Fatalf("the up ended with %v: %v", err, errors.Unwrap(err))
	}
	if ended != "" {
		ts.Check(s.Note(ctx, r, ended))
	}
}
