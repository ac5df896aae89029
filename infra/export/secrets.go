package export

import (
	"embed"
	"path"
	"strconv"
	"strings"
	"text/template"

	"github.com/codexcontinue/codexcontinue/infra/kubernetes"
	"github.com/codexcontinue/codexcontinue/stacks"
)

const secretsScriptName = "secrets.sh"

//go:embed templates
var templates embed.FS

// text is what the templates write: the heads of files, and the scripts that make secrets. These
// take values from the environment, or ask for them: never from arguments, which every user of the
// machine sees.
type text struct {
	Project string
	Stack   stacks.Stack

	// Secrets are those that files of the export hold.
	Secrets []secret

	// Namespace and Objects, the Secrets of the cluster by name, are empty in
	// an export for compose.
	Namespace string
	Objects   []*kubernetes.Object

	// Resolver is the service whose address pods name, and Address what stands in its place; both
	// are empty where pods ask the cluster's name servers.
	Resolver, Address string
}

// secret is a value that a script asks for, with the files that it is written to.
type secret struct {
	// Variable is the name of an environment variable: REDIS_PASSWORD.
	Variable, ConfigKey string
	Files               []secretFile
}

type secretFile struct {
	Path   string
	secret string

	// Write is the command that writes the file's text, with the secret in $value.
	Write string
}

// Folder returns that of the file.
func (f secretFile) Folder() string { return path.Dir(f.Path) }

// newText makes the text of an export with these files.
func newText(stack stacks.Stack, files []secretFile) text {
	out := text{Project: stacks.Project, Stack: stack}
	for _, s := range stack.Secrets {
		asked := secret{strings.ToUpper(strings.ReplaceAll(s.Name, "-", "_")), s.ConfigKey, nil}
		for _, f := range files {
			if f.secret == s.Name {
				asked.Files = append(asked.Files, f)
			}
		}

		if len(asked.Files) > 0 {
			out.Secrets = append(out.Secrets, asked)
		}
	}

	return out
}

// write executes the template of the name.
func write(name string, data any) (string, error) {
	t, err := template.New("").Funcs(template.FuncMap{
		"quote": quote, "bash": bash, "shown": shown,
		"functions": func() string { return functions },
	}).ParseFS(templates, "templates/*")
	if err != nil {
		return "", err
	}

	var out strings.Builder
	err = t.ExecuteTemplate(&out, name, data)
	return out.String(), err
}

// quote writes a word of a POSIX shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// functions are those of a shell that printf calls. HKDF is two HMACs, the secret the message of
// the first. No value is ever an argument of a program: printf is the shell's own.
const functions = `sha256() { if command -v sha256sum >/dev/null; then sha256sum; \
	else shasum -a 256; fi | cut -d' ' -f1; }
bytes() { for b in $(printf %s "$2" | sed 's/../0x& /g'); do \
	printf "\\$(printf %03o "$((b ^ $1))")"; done; }
hmac() { k=$(printf %-128s "$1" | tr ' ' 0); h=$({ bytes 54 "$k"; cat; } | sha256); \
	{ bytes 92 "$k"; bytes 0 "$h"; } | sha256; }
derive() { printf '%s\001' "$1" | hmac "$(printf %s "$value" | hmac '')"; }`

// bash returns the command that writes the file's text where the functions are not.
func bash(f stacks.File) string {
	return strings.NewReplacer("\\\n\t", "", "\n", "; ").Replace(functions) + "; " + printf(f)
}

// shown returns the file's text with words in the place of the secret.
func shown(f stacks.File) string {
	return strconv.Quote(stacks.ReplaceSecrets(contentOf(f), func(purpose string, hash bool) string {
		what := "the secret " + f.Secret
		if purpose != "" {
			what = "what is derived from " + what + " for " + purpose
		}
		if hash {
			what = "the SHA-256 in hex of " + what
		}
		return "<" + what + ">"
	}))
}

func contentOf(f stacks.File) string {
	if f.Content == "" {
		return stacks.SecretToken
	}
	return f.Content
}

// printf returns the command that writes the file's text in one line, with the secret in $value.
func printf(f stacks.File) string {
	format := strings.NewReplacer("%", "%%", `\`, `\\`, "\n", `\n`).Replace(contentOf(f))
	args := ""
	format = stacks.ReplaceSecrets(format, func(purpose string, hash bool) string {
		arg := `"$value"`
		if purpose != "" {
			arg = `"$(derive ` + quote(purpose) + `)"`
		}
		if hash {
			arg = `"$(printf %s ` + arg + ` | sha256)"`
		}
		args += " " + arg
		return "%s"
	})

	command := "printf "
	if strings.HasPrefix(format, "-") { // it is no option
		command += "-- "
	}
	return command + quote(format) + args
}
