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
	functions := template.FuncMap{"quote": quote, "bash": bash, "shown": shown}
	t, err := template.New("").Funcs(functions).ParseFS(templates, "templates/*")
	if err != nil {
		return "", err
	}

	var out strings.Builder
	err = t.ExecuteTemplate(&out, name, data)
	return out.String(), err
}

// quote writes a word of a POSIX shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// bash returns the command that writes the file's text where the functions of the scripts are not.
func bash(f stacks.File) string {
	return strings.ReplaceAll(printf(f), "| sha256)", "| sha256sum | cut -d' ' -f1)")
}

// shown returns the file's text with words in the place of the secret.
func shown(f stacks.File) string {
	return strconv.Quote(strings.NewReplacer(
		stacks.SecretToken, "<the secret "+f.Secret+">",
		stacks.SecretHashToken, "<its SHA-256 in hex>").Replace(contentOf(f)))
}

func contentOf(f stacks.File) string {
	if f.Content == "" {
		return stacks.SecretToken
	}
	return f.Content
}

// printf returns the command that writes the file's text in one line, with the secret in $value.
func printf(f stacks.File) string {
	format, args := "", ""
	for content := contentOf(f); content != ""; {
		if rest, ok := strings.CutPrefix(content, stacks.SecretToken); ok {
			content, format, args = rest, format+"%s", args+` "$value"`
		} else if rest, ok := strings.CutPrefix(content, stacks.SecretHashToken); ok {
			content, format = rest, format+"%s"
			args += ` "$(printf '%s' "$value" | sha256)"`
		} else {
			format += strings.NewReplacer("%", "%%", `\`, `\\`, "\n", `\n`).Replace(content[:1])
			content = content[1:]
		}
	}

	return "printf " + quote(format) + args
}
