package backplane

import (
	"errors"
	"strings"

	"github.com/gobackplane/backplane/transport"
)

// The sentinel errors, reachable through every error of this package by errors.Is.
//
// An error of a publish that is one of the first six is definite: no attempt put bytes on the wire, or the broker said
// no, so nobody hears the message. Every other error of a publish wraps ErrUncertain.
var (
	ErrClosed         = transport.ErrClosed         // the node or subscription was closed
	ErrTooLarge       = transport.ErrTooLarge       // the payload is larger than MaxPayload
	ErrInvalidAddress = transport.ErrInvalidAddress // see [Address.Validate]
	ErrUnavailable    = transport.ErrUnavailable    // the broker or a needed member cannot be reached now
	ErrDenied         = transport.ErrDenied         // credentials or permission; retrying does not help until they change
	ErrUnsupported    = transport.ErrUnsupported    // the transport or the peer cannot do it

	ErrUncertain = transport.ErrUncertain // the message may have been taken; it is heard once or not at all

	ErrInvalidKey  = transport.ErrInvalidKey  // a store's key is empty, too long, or holds other bytes than a key may
	ErrKeyNotFound = transport.ErrKeyNotFound // a store's key has no value
	ErrConflict    = transport.ErrConflict    // a store's key has another revision than the write named; nothing was written

	ErrInvalidOption = transport.ErrInvalidOption // an option or URL does not fit; the text says what to write instead
)

// Why a question has no answer. Each of these comes together with ErrUnavailable; an ErrUnavailable without one of them means
// that the question was not asked: this node's own link is down.
var (
	ErrTimeout  = errors.New("no answer in time")          // it was asked; whether the node acted is unknown
	ErrNodeLost = errors.New("node is silent")             // the node fell silent, or was never heard: it may live
	ErrNodeLeft = errors.New("node has left")              // the node said goodbye
	ErrBusy     = errors.New("too many questions at once") // the node did not take the question
)

// Error is the type of every error that this package's functions return. It never holds a payload or a secret.
type Error struct {
	Op      string  // "open", "publish", "subscribe", "unsubscribe", "ask", "settle", "close"; a Store's "get", "create", "update", "delete", "expire", "watch"
	Address Address // the zero Address where there is none
	Err     error   // the cause; errors.Is and errors.As look through it

	hashNames bool
}

// Error reads "backplane: publish group "ward:4B": unavailable: …". With [Options.HashNames] the name is a short hash.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("backplane: ")
	b.WriteString(e.Op)
	if e.Address != (Address{}) {
		b.WriteByte(' ')
		b.WriteString(e.Address.display(e.hashNames))
	}
	b.WriteString(": ")
	b.WriteString(e.Err.Error())
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// BatchError is the error of a [Node.PublishBatch] of which some messages were not taken. It is wrapped in an *Error;
// get it by errors.As.
type BatchError struct {
	// Errors has one entry for each message of the batch, nil for those that were taken.
	Errors []error
}

// Error tells how many failed and shows the first reason.
func (e *BatchError) Error() string {
	failed, first := 0, error(nil)
	for _, err := range e.Errors {
		if err != nil {
			failed++
			if first == nil {
				first = err
			}
		}
	}
	if first == nil {
		return "no message failed"
	}
	return itoa(failed) + " of " + itoa(len(e.Errors)) + " messages failed, the first with: " + first.Error()
}

// Unwrap returns the errors of the messages that were not taken.
func (e *BatchError) Unwrap() []error {
	var errs []error
	for _, err := range e.Errors {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}
