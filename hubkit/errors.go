package hubkit

import (
	"errors"
	"fmt"

	"github.com/gobackplane/backplane"
)

// The errors that hubs add to those of package backplane (ErrClosed, ErrInvalidAddress, ErrInvalidOption, ErrTooLarge,
// ErrUnavailable, ErrDenied, ErrUncertain, ErrUnsupported, ErrNodeLost, ErrTimeout, ErrBusy), reachable by errors.Is.
var (
	ErrDisconnected  = errors.New("connection closed")  // the Connection was closed, by whoever
	ErrNotFound      = errors.New("no such connection") // the connection's home says so
	ErrInvalidTarget = errors.New("invalid target")     // an id that no hub has made, or too long a list
	ErrPartial       = errors.New("partial")            // not every instance was reached, or is known; see PartialError
	ErrInvalidToken  = errors.New("invalid page token") // made by another query or version, or by nobody
	ErrNotInvoked    = errors.New("no such invocation") // answered already, ended, or another connection's

	// ErrTooManyGroups: the user is a member of [MaxUserGroups] groups.
	ErrTooManyGroups = errors.New("too many groups of the user")
	// ErrDraining: [Hub.Drain] has begun; the client has to connect to another instance.
	ErrDraining = errors.New("this instance drains")
	// ErrLocalOnly: the backplane is down, and the send reached the connections of this instance only; see
	// [Options.LocalWhenDown]. To send again would reach these twice.
	ErrLocalOnly = errors.New("delivered on this instance only")
)

// The errors of a resume token that Connect does not accept, see [ResumeOptions]. Each matches ErrResume, which tells a server
// to have the client connect without it. A token of a version that is not known is ErrResume and backplane.ErrUnsupported.
var (
	ErrResume = errors.New("the resume token is not accepted")

	ErrResumeTooLong   = fmt.Errorf("%w: it is longer than MaxToken", ErrResume)
	ErrResumeMalformed = fmt.Errorf("%w: it is malformed", ErrResume)
	ErrResumeForged    = fmt.Errorf("%w: no key of this ring has signed it", ErrResume)
	ErrResumeForeign   = fmt.Errorf("%w: it is of another namespace or hub", ErrResume)
	ErrResumeExpired   = fmt.Errorf("%w: it has expired", ErrResume)
	// ErrResumeUser: the token is another user's than [ConnectOptions.User], or somebody's who has logged in since.
	ErrResumeUser = fmt.Errorf("%w: it is of another user", ErrResume)
	// ErrResumeEnded: the server ended the session, see [Hub.Disconnect].
	ErrResumeEnded = fmt.Errorf("%w: the server ended its session", ErrResume)
	// ErrResumeReplaced: the token was presented again meanwhile, and that newer connection won.
	ErrResumeReplaced = fmt.Errorf("%w: a newer connection of its session is there", ErrResume)
	// ErrResumeDeclined: [ResumeOptions.Restore] returned an error, which it wraps.
	ErrResumeDeclined = fmt.Errorf("%w: it was declined", ErrResume)
)

// Error is the type of every error that this package's functions return. It never holds a payload.
type Error struct {
	// Op is "new", "connect", "join", "leave", "leave all", "disconnect", "join user", "leave user", "user groups", "count",
	// "exists", "list", "invoke", "reply", "resume token", "send", "drain" or "close".
	Op  string
	Hub string // the hub's name
	Err error  // the cause; errors.Is and errors.As look through it
}

// Error reads `hubkit: send in "ward": …`.
func (e *Error) Error() string { return fmt.Sprintf("hubkit: %s in %q: %v", e.Op, e.Hub, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// SendError is the error of a send to several targets of which some failed. It is wrapped in an [*Error]; get it by
// errors.As. What is not in it was taken.
type SendError struct {
	Failed []FailedTarget
	Total  int // how many messages the send had to make
}

// FailedTarget is a part of a send that failed.
type FailedTarget struct {
	// Address is the group, the user, or the inbox of the connections' home.
	Address backplane.Address
	// Connections are the ids concerned, where the target was connections.
	Connections []string
	Err         error
}

// Error tells how many failed and shows the first reason.
func (e *SendError) Error() string {
	if len(e.Failed) == 0 {
		return "no target failed"
	}
	return fmt.Sprintf("%d of %d targets failed, the first with: %v", len(e.Failed), e.Total, e.Failed[0].Err)
}

// Unwrap returns the reasons.
func (e *SendError) Unwrap() []error {
	errs := make([]error, len(e.Failed))
	for i, f := range e.Failed {
		errs[i] = f.Err
	}
	return errs
}
