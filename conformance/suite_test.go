package conformance

import "testing"

func TestToy(t *testing.T) {
	open, faults := toys(nil)
	Test(t, open, faults, Bubble(), Strict())
}

func TestToyOutsideABubble(t *testing.T) {
	open, faults := toys(nil)
	Test(t, open, faults, Strict())
}
