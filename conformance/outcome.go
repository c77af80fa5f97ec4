package conformance

import (
	"context"
	"errors"

	"github.com/gobackplane/backplane"
)

// class sorts what a verb returned.
type class string

// The classes of results.
const (
	pending      class = "" // not returned yet
	ok           class = "ok"
	closed       class = "closed"
	tooLarge     class = "too large"
	badAddress   class = "invalid address"
	unavailable  class = "unavailable"
	denied       class = "denied"
	unsupported  class = "unsupported"
	uncertain    class = "uncertain"
	badOption    class = "invalid option"
	ended        class = "context" // a context's error and none of the above
	undocumented class = "undocumented"
)

// outcome is what a verb returned.
type outcome struct {
	Class class  `json:"class"`
	Text  string `json:"text,omitempty"`
	Typed bool   `json:"typed,omitempty"` // it is a *backplane.Error
	Both  bool   `json:"both,omitempty"`  // it says uncertain and definite at once
}

// definite reports whether a publish with this result is heard by nobody.
func (o outcome) definite() bool {
	switch o.Class {
	case closed, tooLarge, badAddress, unavailable, denied, unsupported:
		return true
	default:
		return false
	}
}

func (o outcome) String() string {
	if o.Class == pending {
		return "not returned"
	}
	return string(o.Class)
}

// classify sorts an error by the contract's classes.
func classify(err error) outcome {
	if err == nil {
		return outcome{Class: ok}
	}
	o := outcome{Class: undocumented, Text: err.Error()}
	var typed *backplane.Error
	o.Typed = errors.As(err, &typed)
	for _, c := range []struct {
		err   error
		class class
	}{
		{backplane.ErrClosed, closed},
		{backplane.ErrTooLarge, tooLarge},
		{backplane.ErrInvalidAddress, badAddress},
		{backplane.ErrDenied, denied},
		{backplane.ErrUnavailable, unavailable},
		{backplane.ErrUnsupported, unsupported},
	} {
		if errors.Is(err, c.err) {
			o.Class = c.class
			break
		}
	}
	switch {
	case errors.Is(err, backplane.ErrUncertain):
		o.Both = o.Class != undocumented
		o.Class = uncertain
	case o.Class != undocumented:
	case errors.Is(err, backplane.ErrInvalidOption):
		o.Class = badOption
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		o.Class = ended
	}
	return o
}
