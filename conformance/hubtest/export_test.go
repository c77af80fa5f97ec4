package hubtest

import "testing"

// Face proves one property in a bubble of its own, whatever becomes of the goroutines in it.
func Face(t *testing.T, open Opener, id string) Result {
	t.Helper()
	for _, p := range Properties() {
		if p.ID == id {
			return newSuite(open, []Option{Bubble(), Strict()}).inBubble(t, p)
		}
	}
	t.Fatalf("%q is no property", id)
	return Result{}
}
