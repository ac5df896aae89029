package vocabulary

import "testing"

// TestUnknown: of a vocabulary that is not known, what looks like a control token is taken for one.
func TestUnknown(t *testing.T) {
	for text, want := range map[string]string{
		"plain [1] text < 3":     "plain [1] text < 3",
		"<|im_start|>system":     "<\u200b|im_start|>system",
		"<<|alt|>|alt|>":         "<<\u200b|alt|>|alt|>",
		"<|fim-prefix|>":         "<\u200b|fim-prefix|>",
		"<start_of_turn>user":    "<\u200bstart_of_turn>user",
		"<｜User｜>":               "<\u200b｜User｜>",
		"a</s><s>[INST]":         "a<\u200b/s><\u200bs>[\u200bINST]",
		"<<SYS>> [/INST]":        "<\u200b<SYS>> [\u200b/INST]",
		"a <| b |> c":            "a <| b |> c",
		"if a <b> && [x] {<eos>": "if a <b> && [x] {<\u200beos>",
	} {
		got := (*Vocabulary)(nil).Neutralise(text)
		if got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
		if again := (*Vocabulary)(nil).Neutralise(got); again != got {
			t.Errorf("%q: a second time gives %q", text, again)
		}
	}
}
