package hubkit

import "sync"

// A send to several groups travels as one message for each, so a member of two of them hears it twice and must get it
// once (H1). The order of the copies is not known, and the connection may join or leave between them, so that asking
// "is it in the other group too?" gives the wrong answer. Instead the instance gives each such send that it hears a
// serial, the same for all copies, and each connection remembers which serials it has got. Both memories are windows:
// a copy that comes later than onceWindow other such sends cannot be judged, and is told as missed instead.

// onceWindow is how many sends to several targets may come between two copies of one of them. It is several times the
// default queue of a subscription, which bounds how far one copy can lag behind another within a node.
const onceWindow = 4096

// maxOrigins bounds how many sending hubs are remembered beyond the window. It takes that many hubs that were forgotten
// to make one late copy look new.
const maxOrigins = 16384

// onceTable gives serials to sends.
type onceTable struct {
	mu     sync.Mutex
	serial uint64            // the last one given; the first is 1
	known  map[sendID]uint64 // the serials of the last onceWindow sends
	ring   []sendID          // the same by serial modulo onceWindow
	passed map[origin]uint64 // the highest number of each hub that left the window
}

// of returns the serial of a send, or false where its serial may have been forgotten.
func (t *onceTable) of(id sendID) (serial uint64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if serial, ok = t.known[id]; ok {
		return serial, true
	}
	if id.number <= t.passed[id.origin] {
		return 0, false
	}
	if t.known == nil {
		t.known = make(map[sendID]uint64)
		t.passed = make(map[origin]uint64)
		t.ring = make([]sendID, onceWindow)
	}
	t.serial++
	at := t.serial % onceWindow
	if t.serial > onceWindow {
		t.forget(t.ring[at])
	}
	t.ring[at] = id
	t.known[id] = t.serial
	return t.serial, true
}

func (t *onceTable) forget(id sendID) {
	delete(t.known, id)
	if id.number <= t.passed[id.origin] {
		return
	}
	if len(t.passed) >= maxOrigins {
		for o := range t.passed {
			delete(t.passed, o)
			break
		}
	}
	t.passed[id.origin] = id.number
}

// window remembers which of the last onceWindow serials a connection has got. It is made with the first of them:
// most connections never need one.
type window struct {
	top  uint64 // the highest serial marked
	bits [onceWindow / 64]uint64
}

// The answers of window.mark.
const (
	markedNow    = iota // it had not got the serial, and has now
	markedBefore        // it has got the serial already
	markedTooOld        // the serial has left the window
)

func (w *window) mark(serial uint64) int {
	switch {
	case serial > w.top:
		if serial-w.top >= onceWindow {
			clear(w.bits[:])
		} else {
			for s := w.top + 1; s < serial; s++ {
				w.bits[s%onceWindow/64] &^= 1 << (s % 64)
			}
		}
		w.top = serial
	case w.top-serial >= onceWindow:
		return markedTooOld
	case w.bits[serial%onceWindow/64]&(1<<(serial%64)) != 0:
		return markedBefore
	}
	w.bits[serial%onceWindow/64] |= 1 << (serial % 64)
	return markedNow
}
