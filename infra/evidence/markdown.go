package evidence

import (
	"fmt"
	"strings"
)

// Markdown returns the report as a page.
func (r Report) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# What supports 45 CFR 164.312 in %s on %s\n\n", r.Stack, r.Target)
	b.WriteString("Made from the code by `codexctl evidence " + r.Stack + "`: what of the stack " +
		"supports each technical safeguard,\nand what is left to whoever operates it. It is no " +
		"judgement of whether the rule is met.\n\n" +
		"Rules are those of docs/policy.md, asked about the plan. One that asks less of this stack " +
		"than of others does\nnot apply here, and supports nothing. Fields are variables of the " +
		"services. Tests are run by `.ci/run`,\nwhich names what it has no time for.\n")

	for _, item := range r.Items {
		kind := "required"
		if item.Addressable {
			kind = "addressable"
		}

		fmt.Fprintf(&b, "\n## %s %s (%s)\n\n", item.Section, item.Title, kind)
		if len(item.Supports) > 0 {
			b.WriteString("| supported by | what it does | in this stack |\n|---|---|---|\n")
		} else {
			b.WriteString("Nothing in the stack supports this.\n")
		}

		for _, s := range item.Supports {
			fmt.Fprintf(&b, "| %s `%s` | %s | %s |\n", s.Kind, s.Name, upper(s.What), s.state())
		}

		fmt.Fprintf(&b, "\nLeft to the operator: %s\n", item.Operator)
	}

	return b.String()
}

// state says how the stack does.
func (s Support) state() string {
	switch {
	case s.Kind == Test:
		return "run by `.ci/run`"
	case s.Kind == Rule && s.Holds:
		return "kept"
	case s.Exempt:
		return "**does not apply here**"
	case s.Kind == Rule:
		return "**not kept**"
	case s.Value == "":
		return "**not set**"
	case !s.Holds:
		return "**`" + s.Value + "`**, which supports nothing"
	}

	return "`" + s.Value + "`"
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
