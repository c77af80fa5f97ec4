package embedded

import (
	"fmt"
	"slices"

	"github.com/gobackplane/backplane/transport"
)

// failure is every error that this package makes: its classes, what happened and what helps, and the cause where it can
// be shown. What package nats returns passes through as it is.
type failure struct {
	classes []error // sentinels of package transport
	text    string
	cause   error // nil if there is none
}

func (f *failure) Error() string {
	if f.cause == nil {
		return f.classes[0].Error() + ": nats/embedded: " + f.text
	}
	return f.classes[0].Error() + ": nats/embedded: " + f.text + ": " + f.cause.Error()
}

func (f *failure) Unwrap() []error {
	if f.cause == nil {
		return f.classes
	}
	return append(slices.Clip(f.classes), f.cause)
}

// invalid makes the error for options that do not fit, seen before any I/O.
func invalid(format string, args ...any) error {
	return &failure{classes: []error{transport.ErrInvalidOption}, text: fmt.Sprintf(format, args...)}
}

// unreadable is invalid for a file.
func unreadable(setting string, cause error) error {
	return &failure{classes: []error{transport.ErrInvalidOption}, text: setting, cause: cause}
}

// denied makes the error for a setting that turned out to be wrong: retrying does not help until it changes.
func denied(cause error, text string) error {
	return &failure{classes: []error{transport.ErrDenied, transport.ErrInvalidOption}, text: text, cause: cause}
}

func unavailable(cause error, text string) error {
	return &failure{classes: []error{transport.ErrUnavailable}, text: text, cause: cause}
}

var errClosed = &failure{classes: []error{transport.ErrClosed}, text: "the transport was closed"}
