package session

import "strings"

// browsers and systems are what a header User-Agent names, the more special ones first: most
// browsers claim to be others as well.
var (
	browsers = [][2]string{
		{"Edg", "Edge"}, {"OPR/", "Opera"}, {"SamsungBrowser/", "Samsung Internet"},
		{"Firefox/", "Firefox"}, {"FxiOS/", "Firefox"}, {"CriOS/", "Chrome"},
		{"Chrome/", "Chrome"}, {"Safari/", "Safari"}, {"curl/", "curl"},
	}
	systems = [][2]string{
		{"Android", "Android"}, {"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Windows", "Windows"},
		{"CrOS", "ChromeOS"}, {"Mac OS X", "macOS"}, {"Linux", "Linux"},
	}
)

// describe returns what a person calls the browser with the header User-Agent. The header itself
// tells more about a machine than anybody needs to keep.
func describe(agent string) string {
	browser, system := named(browsers, agent), named(systems, agent)
	switch {
	case browser == "":
		return "An unknown browser"
	case system == "":
		return browser
	}

	return browser + " on " + system
}

// named returns the name of the first pair whose mark is in the text, or "".
func named(pairs [][2]string, text string) string {
	for _, pair := range pairs {
		if strings.Contains(text, pair[0]) {
			return pair[1]
		}
	}
	return ""
}
