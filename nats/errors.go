package nats

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gobackplane/backplane/internal/tlsfiles"
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
		return f.class.Error() + ": nats: " + f.text
	}
	return f.class.Error() + ": nats: " + f.text + ": " + f.cause.Error()
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

// uncertain is the error of what may have been taken. A cause that has a class loses it: it must not pass for a definite one.
func uncertain(cause error) error {
	if f, ok := errors.AsType[*failure](cause); ok {
		return &failure{class: transport.ErrUncertain, text: f.text, cause: f.cause}
	}
	return &failure{class: transport.ErrUncertain, text: "the server did not answer", cause: cause}
}

var (
	errNotConnected = unavailable(nil, "not connected")
	errClosed       = &failure{class: transport.ErrClosed, text: "the transport was closed"}
	errGivenUp      = unavailable(nil, "the connection was given up")
	errEnded        = errors.New("the server ended the subscription")
	errUnanswered   = unavailable(nil, "the server did not take or answer a publish in time")
	errOverrun      = unavailable(nil, "frames came faster than they were taken")
	errTooMany      = denied(nil, "the server permits no more subscriptions; raise its max_subscriptions, or the account's limit")
)

// forbidden makes the error for a channel that the server does not permit. It does not name the channel, which may be made of a user's
// name.
func (b *bus) forbidden(v verb) error {
	subjects := fmt.Sprintf("%q", cmp.Or(b.cfg.Namespace, "namespace")+".>")
	if v == publishing {
		return denied(nil, "the server does not permit to publish on this channel; the user needs publish: "+subjects)
	}
	return denied(nil, "the server does not permit to subscribe to this channel; the user needs subscribe: "+subjects)
}

// refusal makes the error for why a server will not let us in, and nil where it may later.
func (s *settings) refusal(err error) error {
	said := "the server said " + clean(err)
	switch {
	case errors.Is(err, natsgo.ErrAuthorization):
		return denied(nil, said+"; "+s.login)
	case errors.Is(err, natsgo.ErrAuthExpired), errors.Is(err, natsgo.ErrAuthRevoked), errors.Is(err, natsgo.ErrAccountAuthExpired):
		return denied(nil, said+"; the credentials must be made anew")
	case errors.Is(err, natsgo.ErrNkeysNotSupported):
		return denied(nil, "the server knows no users with nkeys; leave out NKeySeedFile, or give it such users")
	case errors.Is(err, natsgo.ErrSecureConnWanted):
		return denied(nil, "the server does not offer TLS on this port; write nats:// instead of tls://, or turn TLS on there")
	case errors.Is(err, natsgo.ErrNoInfoReceived), strings.HasPrefix(err.Error(), "nats: Attempted To Connect To"):
		return denied(nil, "what answers on this port is not a NATS server's port for clients")
	}
	if text := tlsfiles.Explain(err); text != "" {
		if s.tls == nil {
			text = "the server demands TLS, so write tls:// instead of nats://; " + text
		}
		return denied(err, text)
	}
	if errors.Is(err, natsgo.ErrTLS) && strings.Contains(err.Error(), "after TLS handshake") { // it said why, and we were writing
		return denied(nil, "the server ended the connection after the TLS handshake; set CertFile and KeyFile to a certificate that it accepts")
	}
	return nil
}

// clean quotes what a server said.
func clean(err error) string {
	const most = 200
	text := strings.TrimPrefix(err.Error(), "nats: ")
	if len(text) > most {
		text = text[:most] + "…"
	}
	return fmt.Sprintf("%q", text)
}
