package export

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/infra/docker"
	"github.com/codexcontinue/codexcontinue/infra/kubernetes"
	"github.com/codexcontinue/codexcontinue/stacks"
)

const secretsScriptName = "secrets.sh"

// comment is the head of a file.
type comment struct{ strings.Builder }

func (c *comment) line(format string, args ...any) {
	c.WriteString(strings.TrimRight("# "+fmt.Sprintf(format, args...), " ") + "\n")
}

func composeHeader(stack stacks.Stack, secrets bool) string {
	var h comment
	h.line("Stack %s of %s, exported by `codexctl export compose %s`. Do not edit: change the stack and export again.", stack.Name, stacks.Project, stack.Name)
	h.line("")
	if secrets {
		h.line("  ./%s                            # once: asks for the secrets, whose values no export holds", secretsScriptName)
	}
	h.line("  docker compose up -d --build --wait     # docker compose 2.24 or later")
	h.line("")
	h.line("Unlike `codexctl up`, compose stops a container before its replacement is healthy.")
	return h.String()
}

// askForSecrets are the functions of a script that takes values from the environment, or asks for them: never from
// arguments, which every user of the machine sees.
const askForSecrets = `
ask() { # ask VARIABLE CONFIG-KEY
	eval "value=\${$1-}"
	if [ -z "$value" ]; then
		printf '%s: ' "$2" >&2
		[ ! -t 0 ] || stty -echo
		IFS= read -r value || true
		[ ! -t 0 ] || { stty echo; echo >&2; }
	fi
	[ -n "$value" ] || { echo "error: $2 is empty: set $1, or type a value" >&2; exit 1; }
}

sha256() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -d' ' -f1; }
`

// composeSecrets is the script that makes the files that hold secrets; empty when there are none.
func composeSecrets(stack stacks.Stack) string {
	var b strings.Builder
	fmt.Fprintf(&b, `#!/bin/sh
# Makes the files of stack %s that hold secrets, beside this script. Each value is asked for, unless the variable of its
# name is set. Containers read the files as other users, so these are readable (0444); the folder's mode (0700) keeps the
# other users of this machine out.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets
trap '[ ! -t 0 ] || stty echo' EXIT
%s`, stack.Name, askForSecrets)
	found := false
	for _, secret := range stack.Secrets {
		asked := false
		for _, svc := range stack.Services {
			for _, f := range svc.Files {
				if f.Secret != secret.Name {
					continue
				}
				if !asked {
					fmt.Fprintf(&b, "\nask %s %s\n", variable(secret.Name), quote(secret.ConfigKey))
					asked, found = true, true
				}
				file := docker.FilePath(svc.Name, f)
				fmt.Fprintf(&b, "mkdir -p %s\nrm -f %s\n%s >%s\nchmod 444 %s\n", quote(path.Dir(file)), quote(file), printf(f), quote(file), quote(file))
			}
		}
	}
	if !found {
		return ""
	}
	return b.String()
}

// script makes the Secrets in the cluster.
func (m *manifests) script() string {
	var b strings.Builder
	fmt.Fprintf(&b, `#!/bin/sh
# Makes the Secrets of stack %s in the cluster of kubectl's current context. Each value is asked for, unless the variable of
# its name is set. After a change of a value, run it again and restart the pods that mount it:
#   kubectl --namespace %s rollout restart deployment,statefulset
set -eu
umask 077
dir=$(mktemp -d)
trap 'rm -rf "$dir"; [ ! -t 0 ] || stty echo' EXIT
%s`, m.Stack.Name, m.namespace, askForSecrets)
	for _, secret := range m.Stack.Secrets {
		asked := false
		for _, o := range m.secrets {
			for _, key := range slices.Sorted(maps.Keys(o.Files)) {
				f := o.Files[key]
				if f.Secret != secret.Name {
					continue
				}
				if !asked {
					fmt.Fprintf(&b, "\nask %s %s\n", variable(secret.Name), quote(secret.ConfigKey))
					asked = true
				}
				fmt.Fprintf(&b, "mkdir -p \"$dir\"/%s\n%s >\"$dir\"/%s\n", quote(o.GetName()), printf(f), quote(o.GetName()+"/"+key))
			}
		}
	}
	b.WriteString("\n")
	for _, o := range m.secrets {
		fmt.Fprintf(&b, "kubectl --namespace %s create secret generic %s --from-file=\"$dir\"/%s --dry-run=client --output=yaml | kubectl apply -f -\n",
			quote(m.namespace), quote(o.GetName()), quote(o.GetName()))
	}
	return b.String()
}

// template is a comment in the place of the Secret: what it is, and a command that makes it.
func template(o *kubernetes.Object) string {
	var c comment
	c.line("Secret %s is yours to make, as no export holds its values: with secrets.sh, or, in bash, with the value in $value:", o.GetName())
	c.line("")
	line := fmt.Sprintf("kubectl --namespace %s create secret generic %s", o.GetNamespace(), o.GetName())
	for _, key := range slices.Sorted(maps.Keys(o.Files)) {
		line += fmt.Sprintf(" --from-file=%s=<(%s)", key, strings.ReplaceAll(printf(o.Files[key]), "| sha256)", "| sha256sum | cut -d' ' -f1)"))
	}
	c.line("  %s", line)
	c.line("")
	c.line("apiVersion: v1")
	c.line("kind: Secret")
	c.line("metadata: {name: %s, namespace: %s}", o.GetName(), o.GetNamespace())
	c.line("stringData:")
	for _, key := range slices.Sorted(maps.Keys(o.Files)) {
		c.line("  %s: %q", key, strings.NewReplacer(stacks.SecretToken, "<the secret "+o.Files[key].Secret+">",
			stacks.SecretHashToken, "<its SHA-256 in hex>").Replace(textOf(o.Files[key])))
	}
	return c.String()
}

// variable is the name of an environment variable for the secret: REDIS_PASSWORD.
func variable(secret string) string { return strings.ToUpper(strings.ReplaceAll(secret, "-", "_")) }

func textOf(f stacks.File) string {
	if f.Content == "" {
		return stacks.SecretToken
	}
	return f.Content
}

// printf is the command that writes the file's text in one line, with the secret in $value.
func printf(f stacks.File) string {
	const hash = `"$(printf '%s' "$value" | sha256)"`
	content, format, args := textOf(f), "", ""
	for content != "" {
		switch {
		case strings.HasPrefix(content, stacks.SecretToken):
			content, format, args = content[len(stacks.SecretToken):], format+"%s", args+` "$value"`
		case strings.HasPrefix(content, stacks.SecretHashToken):
			content, format, args = content[len(stacks.SecretHashToken):], format+"%s", args+" "+hash
		default:
			format += strings.NewReplacer("%", "%%", `\`, `\\`, "\n", `\n`).Replace(content[:1])
			content = content[1:]
		}
	}
	return "printf " + quote(format) + args
}
