package generation

import "testing"

// The mark is shown as what it is, also where the text so far ends inside a block of code.
func TestBeginAgain(t *testing.T) {
	for text, want := range map[string]string{
		"":                                     "",
		"plain":                                "",
		"```go\nfunc":                          "\n```",
		"```go\nfunc\n```\n":                   "",
		"a\n````\n```\nx\n":                    "\n````",
		"~~~\n```\n":                           "\n~~~",
		"~~~\n~~~~\nafter":                     "",
		"   ```\ncode":                         "\n```",
		"    ```\nindented, which is no fence": "",
		"``` a`b\nno fence":                    "",
		"```go\n``` go\n":                      "\n```",
	} {
		if got := beginAgain(text); got != want+beginsAgain {
			t.Errorf("beginAgain(%q) = %q", text, got)
		}
		if rest := sinceBegun(text + beginAgain(text) + "new"); rest != "new" {
			t.Errorf("since it began again: %q", rest)
		}
	}
}
