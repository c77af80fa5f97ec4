package backplane

import (
	"context"
	"encoding/binary"
	"sync/atomic"
	"testing"

	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/internal/wire"
)

// FuzzOwnBodies feeds any bytes to the decoders of the engine's own messages. They must not panic, must not take more from a
// body than is in it, and must leave nothing behind where they refuse it.
func FuzzOwnBodies(f *testing.F) {
	n, err := Open(f.Context(), inmem.NewBroker().Opener(), Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := n.Close(context.Background()); err != nil {
			f.Error(err)
		}
	})
	n.Answer("service", func(_ context.Context, _ NodeID, request []byte) ([]byte, error) { return request, nil })
	f.Add(byte(wire.Heartbeat), n.heartbeat(flagHello, 1))
	f.Add(byte(wire.Heartbeat), n.heartbeat(flagGoodbye, 1))
	f.Add(byte(wire.Heartbeat), []byte{1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Add(byte(wire.Heartbeat), append(n.heartbeat(0, 1), "more"...))
	f.Add(byte(wire.Ask), appendBytes(appendUint64(appendUint64([]byte{questionVersion}, 1), 1000), "service"))
	f.Add(byte(wire.Ask), appendBytes(appendUint64(appendUint64([]byte{questionVersion}, 1), 1<<63), "service"))
	f.Add(byte(wire.Answer), answerBody(1, answerOK, []byte("yes")))
	f.Add(byte(wire.Answer), answerBody(1, answerError, []byte("\xff\xfe")))
	f.Add(byte(wire.Answer), answerBody(1, 200, make([]byte, 1000)))
	f.Add(byte(wire.Barrier), barrierQuestion(barrierGate|barrierMissed, 7))
	f.Add(byte(wire.Barrier), append(barrierQuestion(0, 7), "\x02g\x00\x07ward:4Ba\x04chat\x00"...))
	f.Add(byte(wire.BarrierAnswer), append(barrierQuestion(0, 7), "\x00\x07\x01\x01\x02\xac\x02"...))
	f.Add(byte(wire.BarrierAnswer), append(barrierQuestion(0, 7), "\x02ABCDEFGH\x01IJKLMNOP\x01\x07"...))
	f.Add(byte(wire.BarrierAnswer), append(barrierQuestion(0, 7), "\xff\xff\xff\xff\xff\xff\xff\xff\x7fABCDEFGH\x01"...))
	var strangers atomic.Uint64
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		var p wire.Publisher
		binary.BigEndian.PutUint64(p[:], strangers.Add(1))
		q := &question{waits: map[wire.Publisher]bool{p: true}, done: make(chan struct{})}
		id := uint64(1)
		if wire.Type(kind) == wire.Answer && len(body) > 1 {
			if k, _, err := uint64At(body[1:]); err == nil {
				id = k // have it find the question
			}
		}
		questions, members := &n.questions, &n.members
		questions.mu.Lock()
		questions.open[id] = q
		questions.mu.Unlock()
		var err error
		switch wire.Type(kind) {
		case wire.Heartbeat:
			err = n.heartbeatHeard(p, body)
		case wire.Ask:
			err = n.questionHeard(p, body)
		case wire.Answer:
			err = n.answerHeard(p, body)
		case wire.Barrier:
			err = n.barrierHeard(n.membersLink, p, body)
		case wire.BarrierAnswer:
			err = n.barrierAnswerHeard(n.membersLink, p, body)
		case wire.Data, wire.TailMark, wire.Probe:
		}
		questions.mu.Lock()
		delete(questions.open, id)
		for _, a := range q.answers {
			if err != nil || len(a.Payload) > len(body) || a.Err != nil && len(a.Err.Error()) > maxService {
				t.Errorf("%+v of %d bytes, %v", a, len(body), err)
			}
		}
		questions.mu.Unlock()
		members.mu.Lock()
		if m := members.m[p]; m != nil {
			if err != nil || len(m.Label) > maxLabel || m.settings.heartbeat < 0 || m.settings.memberTimeout < 0 || m.settings.tailMark < 0 {
				t.Errorf("%+v, %v", m, err)
			}
		}
		delete(members.m, p)
		delete(members.left, p)
		members.mu.Unlock()
	})
}
