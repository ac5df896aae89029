package export

import (
	"fmt"
	"path"
	"strings"

	"github.com/codexcontinue/codexcontinue/stacks"
)

const secretsScriptName = "secrets.sh"

func composeHeader(stack stacks.Stack, secrets bool) string {
	var b strings.Builder
	line := func(format string, args ...any) {
		b.WriteString(strings.TrimRight("# "+fmt.Sprintf(format, args...), " ") + "\n")
	}
	line("Stack %s of %s, exported by `codexctl export compose %s`. Do not edit: change the stack and export again.", stack.Name, stacks.Project, stack.Name)
	line("")
	if secrets {
		line("  ./%s                            # once: asks for the secrets, whose values no export holds", secretsScriptName)
	}
	line("  docker compose up -d --build --wait     # docker compose 2.24 or later")
	line("")
	line("Unlike `codexctl up`, compose stops a container before its replacement is healthy.")
	return b.String()
}

// secretsScript makes the files that hold secrets; empty when there are none. Values are asked for, or taken from the
// environment: never from arguments, which every user of the machine sees.
func secretsScript(stack stacks.Stack) string {
	var b strings.Builder
	fmt.Fprintf(&b, `#!/bin/sh
# Makes the files of stack %s that hold secrets, beside this script. Each value is asked for, unless the variable of its
# name is set. Containers read the files as other users, so these are readable (0444); the folder's mode (0700) keeps the
# other users of this machine out.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets

ask() { # ask VARIABLE CONFIG-KEY
	eval "value=\${$1-}"
	if [ -z "$value" ]; then
		printf '%%s: ' "$2" >&2
		if [ -t 0 ]; then
			trap 'stty echo' EXIT
			stty -echo
			IFS= read -r value
			stty echo
			trap - EXIT
			echo >&2
		else
			IFS= read -r value || true
		fi
	fi
	[ -n "$value" ] || { echo "error: $2 is empty: set $1, or type a value" >&2; exit 1; }
}

sha256() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -d' ' -f1; }
`, stack.Name)
	any := false
	for _, secret := range stack.Secrets {
		asked := false
		for _, svc := range stack.Services {
			for _, f := range svc.Files {
				if f.Secret != secret.Name {
					continue
				}
				if !asked {
					fmt.Fprintf(&b, "\nask %s %s\n", variable(secret.Name), quote(secret.ConfigKey))
					asked, any = true, true
				}
				file := secretFile(svc.Name, f)
				fmt.Fprintf(&b, "mkdir -p %s\nrm -f %s\n%s >%s\nchmod 444 %s\n", quote(path.Dir(file)), quote(file), printf(f), quote(file), quote(file))
			}
		}
	}
	if !any {
		return ""
	}
	return b.String()
}

// variable is the name of an environment variable for the secret: REDIS_PASSWORD.
func variable(secret string) string { return strings.ToUpper(strings.ReplaceAll(secret, "-", "_")) }

// printf is the command that writes the file's text, with the secret in $value.
func printf(f stacks.File) string {
	content := f.Content
	if content == "" {
		content = stacks.SecretToken
	}
	const hash = `"$(printf '%s' "$value" | sha256)"`
	args := ""
	for content != "" {
		at, token, word := len(content), "", ""
		for t, w := range map[string]string{stacks.SecretToken: `"$value"`, stacks.SecretHashToken: hash} {
			if i := strings.Index(content, t); i >= 0 && i < at {
				at, token, word = i, t, w
			}
		}
		if at > 0 {
			args += " " + quote(content[:at])
		}
		if word != "" {
			args += " " + word
		}
		content = content[at+len(token):]
	}
	return "printf '%s'" + args
}
