package backplane

import (
	"unicode/utf8"

	"github.com/gobackplane/backplane/transport"
)

// MaxName is the longest name of an address, in bytes.
const MaxName = 1024

// Kind tells what sort of receiver an address names.
type Kind uint8

// The kinds of addresses. Equal names of different kinds never meet.
const (
	KindAll        Kind = 'a' // every instance
	KindGroup      Kind = 'g' // a named group
	KindUser       Kind = 'u' // a user, wherever connected
	KindConnection Kind = 'c' // one connection
	KindInbox      Kind = 'n' // one node
	kindSystem     Kind = 's' // the engine's own traffic; no program can make one
)

// String returns "all", "group", "user", "connection" or "inbox".
func (k Kind) String() string {
	switch k {
	case KindAll:
		return "all"
	case KindGroup:
		return "group"
	case KindUser:
		return "user"
	case KindConnection:
		return "connection"
	case KindInbox:
		return "inbox"
	case kindSystem:
		return "system"
	default:
		return "invalid"
	}
}

// emptyScope keeps "no scope given" and "an empty scope given" apart, so that Validate can refuse the latter.
const emptyScope = "\x00"

// Address says who a message is for. It is a small value, comparable, and usable as a map key. The zero Address is
// invalid. Make one with [All], [Group], [User], [Connection] or [Inbox]; [Address.In] moves it into a scope.
//
// Making an address never fails: an address that breaks the rules of [Address.Validate] is refused, with
// [ErrInvalidAddress] and before any I/O, by the call it is given to.
type Address struct {
	kind  Kind
	scope string
	name  string
}

// All addresses every instance that subscribed to it.
func All() Address { return Address{kind: KindAll} }

// Group addresses a named group, for example "ward:4B".
func Group(name string) Address { return Address{kind: KindGroup, name: name} }

// User addresses a user, on whatever instances the user is connected.
func User(id string) Address { return Address{kind: KindUser, name: id} }

// Connection addresses one connection.
func Connection(id string) Address { return Address{kind: KindConnection, name: id} }

// Inbox addresses one node, by the id that [Node.ID] and [Node.Members] give.
func Inbox(node NodeID) Address { return Address{kind: KindInbox, name: string(node)} }

// In returns the same address in a scope: addresses of different scopes, and those without one, never meet. A hub uses
// its name as scope. A scope is 1 to 64 characters of a-z 0-9 _ -.
func (a Address) In(scope string) Address {
	if scope == "" {
		scope = emptyScope
	}
	a.scope = scope
	return a
}

// Kind returns the kind; 0 for the zero Address.
func (a Address) Kind() Kind { return a.kind }

// Scope returns the scope, "" if there is none.
func (a Address) Scope() string { return a.scope }

// Name returns the name, "" for [All].
func (a Address) Name() string { return a.name }

// Validate reports whether the address can be used: a known kind; for all kinds but [All] a name that is valid UTF-8 of
// 1 to 1,024 bytes; and a scope of 1 to 64 characters of a-z 0-9 _ -, if there is one. Its error wraps
// [ErrInvalidAddress]. Names are case-sensitive and taken as they are: wildcards of a broker, spaces, dots, braces and
// line breaks mean nothing.
func (a Address) Validate() error {
	switch a.kind {
	case KindAll, KindGroup, KindUser, KindConnection, KindInbox:
	case 0:
		return invalidAddress("the zero Address; make one with All, Group, User, Connection or Inbox")
	default:
		return invalidAddress("unknown kind")
	}
	if a.scope != "" && !plainName(a.scope) {
		return invalidAddress("a scope is 1 to 64 characters of a-z 0-9 _ -")
	}
	switch {
	case a.kind == KindAll:
		if a.name != "" {
			return invalidAddress("All has no name")
		}
	case a.name == "":
		return invalidAddress("the name is empty")
	case len(a.name) > MaxName:
		return invalidAddress("the name is longer than 1024 bytes")
	case !utf8.ValidString(a.name):
		return invalidAddress("the name is not valid UTF-8")
	}
	return nil
}

// String shows the address for people: `group "ward:4B"`, `all in "chat"`.
func (a Address) String() string { return a.show(a.name) }

// plainName is the rule for namespaces and scopes: 1 to 64 of a-z 0-9 _ -.
func plainName(s string) bool {
	if len(s) == 0 || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

type addressError string

func invalidAddress(why string) error { return addressError(why) }

func (e addressError) Error() string { return transport.ErrInvalidAddress.Error() + ": " + string(e) }
func (e addressError) Unwrap() error { return transport.ErrInvalidAddress }
