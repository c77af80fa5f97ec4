package hubkit

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/gobackplane/backplane"
)

// What hubs ask one another are questions to the service of their name (see service), whose body is
//
//	version  1 byte   questionVersion
//	kind     1 byte   what is asked
//	rest              by kind; see operation, query, invocation, userChange, sessionQuestion and notice
//
// and their answers are
//
//	version  1 byte   questionVersion
//	status   1 byte   whether it was done, or which error stands in its way
//	rest              by kind, where it was done
//
// Who does not know a version or kind answers statusUnsupported, so that the asker is told.
const questionVersion = 1

// The kinds of questions. A kind keeps its number for good.
const (
	askJoin       = 1
	askLeave      = 2
	askLeaveAll   = 3
	askDisconnect = 4
	askCount      = 5
	askList       = 6
	askInvoke     = 7
	askForget     = 8
	askUser       = 9
	askSession    = 10
	askNotices    = 11
)

// service is the name under which hubs of one name answer one another.
func service(hub string) string { return "hub/" + hub }

// status is the outcome that an answer tells. The numbers are for good.
type status byte

const (
	statusOK           status = 0
	statusUnsupported  status = 1 // the version, the kind, or the ability
	statusUnreadable   status = 2
	statusClosed       status = 3 // the hub closes: it has no connections any more
	statusSuperseded   status = 4 // the asker had given it up, and has asked for something newer
	statusBusy         status = 5
	statusUnavailable  status = 6
	statusDenied       status = 7
	statusNotFound     status = 8
	statusTimeout      status = 9
	statusDisconnected status = 10
	statusClientError  status = 11 // the rest is what the client said
)

// statuses pairs what can stand in the way with the errors on either side.
var statuses = []struct { //nolint:gochecknoglobals // a constant, but for the language
	status status
	err    error
}{
	{statusUnsupported, backplane.ErrUnsupported},
	{statusUnreadable, errBroken},
	{statusClosed, backplane.ErrClosed},
	{statusSuperseded, errSuperseded},
	{statusBusy, backplane.ErrBusy},
	{statusDenied, backplane.ErrDenied},
	{statusNotFound, ErrNotFound},
	{statusTimeout, backplane.ErrTimeout},
	{statusDisconnected, ErrDisconnected},
	{statusUnavailable, backplane.ErrUnavailable}, // the last: others match it too
}

// errSuperseded is for an operation that its asker had given up before a newer one.
var errSuperseded = errors.New("a later operation of the same hub was here first")

// statusOf returns the status of an error. What has no status of its own could not be done now.
func statusOf(err error) status {
	if err == nil {
		return statusOK
	}
	if errors.Is(err, errVersion) {
		return statusUnsupported
	}
	for _, s := range statuses {
		if errors.Is(err, s.err) {
			return s.status
		}
	}
	return statusUnavailable
}

// err returns the error of a status; nil for statusOK. A status that is not known comes from a newer version.
func (s status) err() error {
	if s == statusOK {
		return nil
	}
	for _, known := range statuses {
		if known.status == s {
			return known.err
		}
	}
	return fmt.Errorf("%w: status %d", backplane.ErrUnsupported, s)
}

// newAnswer begins an answer.
func newAnswer(s status) []byte { return []byte{questionVersion, byte(s)} }

// readAnswer returns what an answer holds, or the error that it tells.
func readAnswer(b []byte) (rest []byte, err error) {
	switch {
	case len(b) < 2:
		return nil, fmt.Errorf("%w: an answer of %d bytes", errBroken, len(b))
	case b[0] != questionVersion:
		return nil, fmt.Errorf("%w: version %d of an answer", backplane.ErrUnsupported, b[0])
	case status(b[1]) == statusClientError:
		return nil, newClientError(string(b[2:]))
	}
	return b[2:], status(b[1]).err()
}

// selection says which connections of an instance a question concerns: the union of what is named, without the
// exceptions.
//
//	flags        1 byte   which of the following are there, in this order
//	groups, users, connections, except   each: uvarint count, then for each: uvarint length, bytes
type selection struct {
	all                                bool
	groups, users, connections, except idList
}

const (
	selectAll         = 0x01
	selectGroups      = 0x02
	selectUsers       = 0x04
	selectConnections = 0x08
	selectExcept      = 0x10
	selectKnown       = selectAll | selectGroups | selectUsers | selectConnections | selectExcept
)

// lists returns the lists in the order of the wire, with their flags.
func (s *selection) lists() [4]struct {
	flag byte
	list *idList
} {
	return [4]struct {
		flag byte
		list *idList
	}{{selectGroups, &s.groups}, {selectUsers, &s.users}, {selectConnections, &s.connections}, {selectExcept, &s.except}}
}

func (s *selection) append(b []byte) []byte {
	at := len(b)
	b = append(b, 0)
	if s.all {
		b[at] |= selectAll
	}
	for _, l := range s.lists() {
		if len(*l.list) > 0 {
			b[at] |= l.flag
			b = binary.AppendUvarint(b, l.list.count())
			b = append(b, *l.list...)
		}
	}
	return b
}

// cut reads a selection. Its lists are parts of b.
func (s *selection) cut(b []byte) (rest []byte, err error) {
	if len(b) == 0 {
		return nil, fmt.Errorf("%w: a selection is missing", errBroken)
	}
	flags := b[0]
	if flags&^selectKnown != 0 {
		return nil, fmt.Errorf("%w: flags %#x of a selection", errVersion, flags)
	}
	s.all = flags&selectAll != 0
	rest = b[1:]
	for _, l := range s.lists() {
		if flags&l.flag == 0 {
			continue
		}
		var ok bool
		if *l.list, rest, ok = cutList(rest); !ok {
			return nil, fmt.Errorf("%w: a list of a selection", errBroken)
		}
	}
	return rest, nil
}

// operation is what is to be done with connections.
//
//	origin   8 bytes  the asking hub
//	number   uvarint  of the operation, from 1
//	floor    uvarint  the lowest number that the asker still waits for; see order
//	selection
//	join, leave: the group's name, the rest
//	disconnect:  code, 1 byte; text, the rest
type operation struct {
	kind          byte
	origin        origin
	number, floor uint64
	of            selection
	group         string
	reason        Reason
}

func (o *operation) encode() []byte {
	b := append([]byte{questionVersion, o.kind}, o.origin[:]...)
	b = binary.AppendUvarint(b, o.number)
	b = binary.AppendUvarint(b, o.floor)
	b = o.of.append(b)
	switch o.kind {
	case askJoin, askLeave:
		b = append(b, o.group...)
	case askDisconnect:
		b = append(b, byte(o.reason.Code))
		b = append(b, o.reason.Text...)
	}
	return b
}

// decodeOperation reads an operation without its version and kind.
func decodeOperation(kind byte, b []byte) (operation, error) {
	o := operation{kind: kind}
	if len(b) < len(o.origin) {
		return o, fmt.Errorf("%w: an operation's origin ends early", errBroken)
	}
	b = b[copy(o.origin[:], b):]
	var ok1, ok2 bool
	o.number, b, ok1 = cutUvarint(b)
	o.floor, b, ok2 = cutUvarint(b)
	if !ok1 || !ok2 || o.number == 0 || o.floor > o.number {
		return o, fmt.Errorf("%w: an operation's number", errBroken)
	}
	b, err := o.of.cut(b)
	if err != nil {
		return o, err
	}
	switch kind {
	case askJoin, askLeave:
		if len(b) > backplane.MaxName {
			return o, fmt.Errorf("%w: a group's name of %d bytes", errBroken, len(b))
		}
		o.group = string(b)
	case askDisconnect:
		if len(b) == 0 || len(b)-1 > maxReasonText {
			return o, fmt.Errorf("%w: a reason of %d bytes", errBroken, len(b))
		}
		o.reason = Reason{Code: ReasonCode(b[0]), Text: string(b[1:])}
	}
	return o, nil
}

// applied is what an operation did on an instance.
//
//	changed  uvarint
//	absent   the ids, as a list; nothing if there are none
type applied struct {
	changed int
	absent  idList // of the connections named that have their home here, those that are not here
}

func (a *applied) encode() []byte {
	b := binary.AppendUvarint(newAnswer(statusOK), uint64(a.changed)) //nolint:gosec // a count
	if len(a.absent) > 0 {
		b = binary.AppendUvarint(b, a.absent.count())
		b = append(b, a.absent...)
	}
	return b
}

func decodeApplied(b []byte) (applied, error) {
	var a applied
	n, b, ok := cutUvarint(b)
	if !ok || n > maxCount {
		return a, fmt.Errorf("%w: a count of connections", errBroken)
	}
	a.changed = int(n)
	if len(b) == 0 {
		return a, nil
	}
	if a.absent, _, ok = cutList(b); !ok {
		return a, fmt.Errorf("%w: a list of connections", errBroken)
	}
	return a, nil
}

// maxCount is more connections than an instance can have.
const maxCount = 1 << 31
