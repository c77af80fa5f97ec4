package backplane

import (
	"os"
	"strings"
	"testing"
)

// The table of channel names in docs/wire.md is what programs of other languages go by.
func TestChannelNamesAreAsDocumented(t *testing.T) {
	document, err := os.ReadFile("docs/wire.md")
	if err != nil {
		t.Fatal(err)
	}
	colons := &namer{prefix: "ward:", delim: ':'}
	subjects := &namer{prefix: "ward.", delim: '.', longest: 250, tokens: true, allowed: func(b byte) bool {
		return b > ' ' && b < 0x7f && !strings.ContainsRune(`*>"\`, rune(b))
	}}
	for text, a := range map[string]Address{
		"all":                         All(),
		"all in scope `chat`":         All().In("chat"),
		"group `4B`":                  Group("4B"),
		"group `4B` in scope `chat`":  Group("4B").In("chat"),
		"group `ward:4B`":             Group("ward:4B"),
		"group `4.B`":                 Group("4.B"),
		"group `4 B` in scope `chat`": Group("4 B").In("chat"),
		"the engine's `members`":      membersAddress,
	} {
		row := "| " + text + " | `" + colons.channel(a) + "` | `" + subjects.channel(a) + "` |\n"
		if !strings.Contains(string(document), row) {
			t.Errorf("docs/wire.md does not say\n%s", row)
		}
	}
}
