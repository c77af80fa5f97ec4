package backplane

import (
	"time"

	"github.com/gobackplane/backplane/internal/wire"
)

// markSilent queues tail marks for the outlets that were last used before the given moment, and returns when the next
// one is due; the zero time if there is none.
func (l *lane) markSilent(before time.Time) (oldest time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open {
		return time.Time{}
	}
	marked := false
	for e := l.aged.Front(); e != nil; {
		next := e.Next() // mark may remove e
		o, _ := e.Value.(*outlet)
		if o.lastUsed.After(before) {
			oldest = o.lastUsed
			break
		}
		marked = l.mark(o) || marked
		e = next
	}
	if marked {
		l.poke()
	}
	return oldest
}

// mark queues a tail mark, which closes the outlet's epoch. mu is held.
func (l *lane) mark(o *outlet) bool {
	if o.closing || o.flight || o.retry != nil || !o.queue.empty() {
		return false
	}
	if l.expire(o, time.Now()); o.epoch == 0 {
		l.drop(o)
		return false
	}
	o.closing = true
	l.put(o, &item{typ: wire.TailMark})
	return true
}

// markOldest makes room in a full table of numbers: a counter may be forgotten only after its tail mark. mu is held.
func (l *lane) markOldest() {
	marked := false
	for e, k := l.aged.Front(), 0; e != nil && k < batchFrames; k++ {
		next := e.Next()
		o, _ := e.Value.(*outlet)
		marked = l.mark(o) || marked
		e = next
	}
	if marked {
		l.poke()
	}
}

// unmarked reports whether there is an open epoch.
func (l *lane) unmarked() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open && l.aged.Len() > 0
}

// markAll queues a tail mark for every open epoch: the node says its last numbers before it closes.
func (l *lane) markAll() {
	l.mu.Lock()
	if l.open {
		for e := l.aged.Front(); e != nil; {
			next := e.Next()
			o, _ := e.Value.(*outlet)
			l.mark(o)
			e = next
		}
	}
	l.mu.Unlock()
	l.poke()
}
