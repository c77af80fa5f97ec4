package backplane

import (
	"fmt"
	"strings"
	"testing"
)

// A sequence is what one publisher's frames brought, one word each: "3/2" is message 2 of epoch 3, "3.2" is a tail mark that
// closes epoch 3 at 2, "lost" is a gap of unknown size that was told in between. "ours" before the first one says that its
// epoch surely began while we were subscribed. The verdicts: "ok" is delivered, "-" is nothing, "+2" is a gap of 2 and then
// delivered or, for a mark, nothing; "+?" is a gap of unknown size.
func TestNumbers(t *testing.T) {
	for name, c := range map[string]struct{ heard, want string }{
		"in order":                                {"1/1 1/2 1/3", "ok ok ok"},
		"begins in the middle":                    {"1/5 1/6", "ok ok"},
		"begins in the middle, and is ours":       {"ours 1/5 1/6", "+4 ok"},
		"begins at the beginning, and is ours":    {"ours 1/1 1/2", "ok ok"},
		"a repeat":                                {"1/1 1/1 1/2 1/1 1/2 1/3", "ok - ok - - ok"},
		"a hole":                                  {"1/1 1/3 1/7", "ok +1 +3"},
		"late is told missing, and not delivered": {"1/1 1/3 1/2 1/4", "ok +1 - ok"},
		"mark after all":                          {"1/1 1/2 1.2", "ok ok -"},
		"mark tells the last one missing":         {"1/1 1.3 1.3", "ok +2 -"},
		"mark repeated":                           {"1/1 1.1 1.1 2/1", "ok - - ok"},
		"mark is late":                            {"1/1 1/2 1.1 1/3", "ok ok - ok"},
		"mark alone":                              {"4.9 5/1", "- ok"},
		"mark alone, and is ours":                 {"ours 4.9 5/1", "+9 ok"},
		"mark of nothing, and is ours":            {"ours 4.0 5/1", "- ok"},
		"a message after its epoch was closed":    {"1/1 1.1 1/2 1.2 2/1", "ok - ok - ok"},
		"repeat of a closed epoch":                {"1/1 1/2 1.2 1/2 1/1 2/1", "ok ok - - - ok"},
		"next epoch":                              {"1/1 1.1 7/1 7/2", "ok - ok ok"},
		"next epoch with a hole at its beginning": {"1/1 1.1 7/3", "ok - +2"},
		"lost mark":                               {"1/1 7/1", "ok +?"},
		"lost mark and a hole: no exact count":    {"1/1 7/3", "ok +?"},
		"lost epoch shows by its mark":            {"1/1 1.1 7.2 8/1", "ok - +2 ok"},
		"lost epoch after a lost mark":            {"1/1 7.2 8/1", "ok +? ok"},
		"an old epoch":                            {"7/1 3/1 3.4 7/2", "ok - - ok"},
		"a lost epoch comes late":                 {"1/1 1.1 7/1 3/1 3.1 7/2", "ok - ok +? - ok"},
		"the mark of a lost epoch comes late":     {"1/1 1.1 7/1 3.1 3/1 7/2", "ok - ok +? - ok"},
		"an old epoch that was heard":             {"1/1 1.1 3/1 3.1 7/1 3/1 1.1", "ok - ok - ok - -"},
		"told lost, then a hole":                  {"1/1 lost 1/4", "ok +2"},
		"told lost, then the next one":            {"1/1 lost 1/2 1/3", "ok ok ok"},
		"told lost, then a mark":                  {"1/1 lost 1.3", "ok +2"},
		"told lost, then a new epoch":             {"1/1 lost 5/1 5/2", "ok ok ok"},
		"told lost, then a new epoch with a hole": {"1/1 lost 5/3", "ok +2"},
		"told lost before that does not last":     {"1/1 lost 1/2 5/1", "ok ok +?"},
		"closed, told lost, new epoch":            {"1/1 1.1 lost 5/1", "ok - ok"},
		"large numbers":                           {"18446744073709551614/18446744073709551614 18446744073709551614/18446744073709551615", "ok ok"},
	} {
		t.Run(name, func(t *testing.T) {
			var count counter
			var got []string
			fresh, ours := true, false
			for word := range strings.FieldsSeq(c.heard) {
				switch word {
				case "ours":
					ours = true
					continue
				case "lost":
					count.lost = true
					continue
				}
				var epoch, k uint64
				var sep rune
				if _, err := fmt.Sscanf(word, "%d%c%d", &epoch, &sep, &k); err != nil {
					t.Fatal(err)
				}
				var v verdict
				if sep == '.' {
					v = count.tail(epoch, k, fresh, ours)
				} else {
					v = count.message(epoch, k, fresh, ours)
				}
				fresh, ours = false, false
				got = append(got, v.word())
				if sep == '.' && v.deliver || sep == '/' && v.missed > 0 && !v.deliver {
					t.Errorf("%s: %+v", word, v)
				}
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("heard %s: %s, want %s", c.heard, s, c.want)
			}
		})
	}
}

func (v verdict) word() string {
	switch {
	case v.gap && v.missed == 0:
		return "+?"
	case v.gap:
		return fmt.Sprintf("+%d", v.missed)
	case v.deliver:
		return "ok"
	default:
		return "-"
	}
}
