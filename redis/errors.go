package redis

import (
	"errors"
	"fmt"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"github.com/gobackplane/backplane/transport"
)

// failure is every error that this package returns: its one class, what happened and what helps, and the cause where it
// can be shown.
type failure struct {
	class error // a sentinel of package transport
	text  string
	cause error // nil if there is none, or if its text could hold a secret; not part of text
}

func (f *failure) Error() string {
	if f.cause == nil {
		return f.class.Error() + ": redis: " + f.text
	}
	return f.class.Error() + ": redis: " + f.text + ": " + f.cause.Error()
}

func (f *failure) Unwrap() []error {
	if f.cause == nil {
		return []error{f.class}
	}
	return []error{f.class, f.cause}
}

func invalid(format string, args ...any) error {
	return &failure{class: transport.ErrInvalidOption, text: fmt.Sprintf(format, args...)}
}

func unavailable(cause error, text string) error {
	return &failure{class: transport.ErrUnavailable, text: text, cause: cause}
}

// classed gives an error a class, unless it has one: then that is the one.
func classed(err error, text string) error {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	return unavailable(err, text)
}

func denied(cause error, text string) error {
	return &failure{class: transport.ErrDenied, text: text, cause: cause}
}

func readOnly(text string) error { return &failure{class: transport.ErrReadOnly, text: text} }

func uncertain(cause error) error {
	return &failure{class: transport.ErrUncertain, text: "the server did not answer", cause: cause}
}

var (
	errNotConnected = unavailable(nil, "not connected")
	errClosed       = &failure{class: transport.ErrClosed, text: "the transport was closed"}
	errGivenUp      = unavailable(nil, "the connection was given up")
)

// refusal makes the error for an error reply of the server. Such an outcome is definite.
func refusal(reply string) error {
	said := "the server said " + clean(reply)
	code, _, _ := strings.Cut(reply, " ")
	switch code {
	case "NOPERM":
		return denied(nil, said+"; the ACL user needs the channels of the namespace (&namespace:*) and +publish +subscribe +unsubscribe")
	case "WRONGPASS":
		return denied(nil, said+"; check Username and Password")
	case "NOAUTH":
		return denied(nil, said+"; the server wants a Password, and a Username where it is not the default user's")
	case "DENIED": // protected mode
		return denied(nil, said)
	case "READONLY":
		return readOnly(said)
	}
	switch {
	case strings.HasPrefix(reply, "ERR unknown command"):
		return denied(nil, said+"; the server lacks a command that pub/sub needs, or it was renamed")
	case strings.HasPrefix(reply, "ERR AUTH <password> called without any password configured"),
		strings.HasPrefix(reply, "ERR Client sent AUTH, but no password is set"):
		return denied(nil, said+"; leave out Password")
	case strings.HasPrefix(reply, "ERR Protocol error: invalid bulk length"):
		return &failure{class: transport.ErrTooLarge, text: said + "; the server's proto-max-bulk-len is smaller than the frame"}
	}
	return unavailable(nil, said) // LOADING, BUSY, MASTERDOWN, OOM, MOVED, CLUSTERDOWN and what is to come
}

// isReply tells an error reply of the server from everything that go-redis makes.
func isReply(err error) bool {
	_, ok := errors.AsType[goredis.Error](err)
	return ok && !errors.Is(err, goredis.Nil)
}

// clean takes out of an error reply what may be a secret, a name or a payload: the server repeats the arguments of a
// command that it does not know.
func clean(reply string) string {
	const most = 200
	reply, _, _ = strings.Cut(reply, ", with args beginning with")
	if len(reply) > most {
		reply = reply[:most] + "…"
	}
	return fmt.Sprintf("%q", reply)
}
