package hubkit

import "sync"

// An operation that timed out may still be on its way, or may wait for the broker on the instance that it was sent to. A later
// operation of the same hub must not be undone by it (H2). So each hub numbers its operations, and each tells the lowest
// number that the hub still waits for, the floor: what is below has returned to its caller. An instance that has heard of a
// floor applies nothing below it any more. So an operation that timed out was applied before every later one that comes
// here, or it never is.

// issued gives numbers to the operations of this hub and knows which are under way.
type issued struct {
	mu    sync.Mutex
	floor uint64 // guarded by mu, as what follows: the lowest number under way, or the next one
	ended []bool // of the numbers from floor on
}

// begin returns the number of a new operation, and the floor.
func (i *issued) begin() (number, floor uint64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.floor == 0 {
		i.floor = 1
	}
	i.ended = append(i.ended, false)
	return i.floor + uint64(len(i.ended)) - 1, i.floor
}

// end notes that nobody waits for an operation any more.
func (i *issued) end(number uint64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ended[number-i.floor] = true
	k := 0
	for k < len(i.ended) && i.ended[k] {
		k++
	}
	i.floor += uint64(k)
	if i.ended = i.ended[k:]; len(i.ended) == 0 {
		i.ended = nil
	}
}

// maxOrders bounds how many asking hubs an instance remembers. One that is forgotten could be overtaken by an operation of
// its own that timed out before more other hubs asked than an installation has.
const maxOrders = 4096

// orders holds, for each hub that asks, what may still be applied.
type orders struct {
	mu sync.Mutex
	m  map[origin]*order // guarded by mu
}

// order is the floor of one asking hub.
type order struct {
	mu    sync.RWMutex // held for reading while an operation is applied
	floor uint64       // guarded by mu
}

// of returns the order of a hub.
func (s *orders) of(o origin) *order {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.m[o]
	if found == nil {
		if s.m == nil {
			s.m = make(map[origin]*order)
		}
		for other := range s.m {
			if len(s.m) < maxOrders {
				break
			}
			delete(s.m, other)
		}
		found = &order{}
		s.m[o] = found
	}
	return found
}

// advance lets nothing below a floor be applied any more. What is being applied is waited for.
func (o *order) advance(floor uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.floor = max(o.floor, floor)
}

// apply calls f, which must not block, unless the operation's number is below the floor.
func (o *order) apply(number uint64, f func()) error {
	o.mu.RLock()
	defer o.mu.RUnlock()
	if number < o.floor {
		return errSuperseded
	}
	f()
	return nil
}
