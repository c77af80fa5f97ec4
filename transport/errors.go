package transport

import "errors"

// The sentinel errors of the whole module. They live here because this is the lowest package; package backplane
// re-exports each under the same name, and that is the name programs should use.
//
// The first six are definite when a publish returns them: nobody hears the message. ErrUncertain is the only error of
// a publish that may mean either.
var (
	// ErrClosed: the node, or the subscription, was closed by this process.
	ErrClosed = errors.New("closed")
	// ErrTooLarge: the payload is larger than the node's MaxPayload.
	ErrTooLarge = errors.New("payload too large")
	// ErrInvalidAddress: the name is empty, longer than 1,024 bytes, or not valid UTF-8; or the scope is not 1 to 64 of a-z 0-9 _ -.
	ErrInvalidAddress = errors.New("invalid address")
	// ErrUnavailable: the broker, or a member whose answer is needed, cannot be reached now. Retrying later helps.
	ErrUnavailable = errors.New("unavailable")
	// ErrDenied: the broker refused the credentials or the permission. Retrying does not help until they change.
	ErrDenied = errors.New("denied")
	// ErrUnsupported: this transport, or this version of a peer, cannot do it.
	ErrUnsupported = errors.New("unsupported")

	// ErrUncertain: the message may or may not have been taken; it is delivered once or not at all.
	ErrUncertain = errors.New("outcome uncertain")

	// ErrInvalidKey: a key of a Store is empty, too long, or holds other bytes than letters, digits, '-', '_', '/' and '='.
	ErrInvalidKey = errors.New("invalid key")
	// ErrKeyNotFound: a key of a Store has no value.
	ErrKeyNotFound = errors.New("no such key")
	// ErrConflict: a key of a Store has another revision than the write named. Nothing was written.
	ErrConflict = errors.New("revision conflict")

	// ErrInvalidOption: an option, or a URL, does not fit. The text names the setting and what to write instead.
	ErrInvalidOption = errors.New("invalid option")
	// ErrReadOnly: the server we are connected to is not the one that may publish (a replica, a demoted master).
	ErrReadOnly = errors.New("server is not the master")
)
