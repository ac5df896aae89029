package diff

import "strings"

// Line is a line of a text that changes: Sign is "-", "+", or " " for one that stays.
type Line struct {
	Sign string `json:"sign"`
	Text string `json:"text"`
}

// maxLines bounds the texts that are compared line by line; of longer ones the middle is replaced as a whole.
const maxLines = 2000

// around is how many lines that stay are shown before and after a change.
const around = 1

// Lines are the changed lines of a text, with the lines around them. "…" stands for lines that are left out.
func Lines(before, after string) []Line {
	a, b := split(before), split(after)
	var head, tail []Line
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		head = append(head, Line{" ", a[0]})
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		tail = append(tail, Line{" ", a[len(a)-1]})
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	all := append(head, middle(a, b)...)
	for i := len(tail) - 1; i >= 0; i-- {
		all = append(all, tail[i])
	}
	return near(all)
}

func split(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// middle is the shortest edit of a to b, by their longest common subsequence.
func middle(a, b []string) []Line {
	var out []Line
	if len(a) > maxLines || len(b) > maxLines {
		for _, l := range a {
			out = append(out, Line{"-", l})
		}
		for _, l := range b {
			out = append(out, Line{"+", l})
		}
		return out
	}
	common := make([][]int, len(a)+1) // of a[i:] and b[j:]
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			out = append(out, Line{" ", a[i]})
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1]:
			out = append(out, Line{"-", a[i]})
			i++
		default:
			out = append(out, Line{"+", b[j]})
			j++
		}
	}
	return out
}

// near leaves out what is far from every change.
func near(all []Line) []Line {
	keep := make([]bool, len(all))
	for i, l := range all {
		if l.Sign == " " {
			continue
		}
		for j := max(0, i-around); j <= min(len(all)-1, i+around); j++ {
			keep[j] = true
		}
	}
	var out []Line
	for i, l := range all {
		switch {
		case keep[i]:
			out = append(out, l)
		case len(out) > 0 && out[len(out)-1].Text != "…":
			out = append(out, Line{" ", "…"})
		}
	}
	if n := len(out); n > 0 && out[n-1] == (Line{" ", "…"}) {
		out = out[:n-1]
	}
	return out
}
