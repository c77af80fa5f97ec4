package hubkit

import (
	"fmt"

	"github.com/gobackplane/backplane"
)

// plan is what a target needs: the messages to publish, and the connections of this instance.
type plan struct {
	addresses []backplane.Address // all, or groups and users: these get the same bytes
	groups    int                 // how many of the addresses are groups
	inboxes   []inbox
	local     []*Connection
	missing   []FailedTarget
}

// inbox is a message to connections with one home.
type inbox struct {
	addr backplane.Address
	ids  []string
}

// maxInboxIDs bounds the connections named in one message.
const maxInboxIDs = 1000

// plan checks a target and sorts it out.
func (h *Hub) plan(to Target) (plan, error) {
	var p plan
	except, err := exceptSet(to.Except)
	if err != nil {
		return p, err
	}
	if err := p.name(h, to.Groups, backplane.Group); err != nil {
		return p, err
	}
	p.groups = len(p.addresses)
	if err := p.name(h, to.Users, backplane.User); err != nil {
		return p, err
	}
	open := make(map[backplane.NodeID]int, 1) // the inbox of each home that has room, by index
	for _, id := range distinct(to.Connections) {
		home, ok := homeOf(id)
		if !ok {
			return p, fmt.Errorf("%w: %.64q is no connection id", ErrInvalidTarget, id)
		}
		if _, left := except[id]; left {
			continue
		}
		p.connection(h, open, home, id)
	}
	if to.All {
		return plan{addresses: []backplane.Address{backplane.All().In(h.name)}}, nil
	}
	return p, nil
}

// name adds the addresses of groups or users.
func (p *plan) name(h *Hub, names []string, address func(string) backplane.Address) error {
	for _, name := range distinct(names) {
		a := address(name).In(h.name)
		if err := a.Validate(); err != nil {
			return err
		}
		p.addresses = append(p.addresses, a)
	}
	return nil
}

// connection adds a connection: here, gone from here, or behind the inbox of its home.
func (p *plan) connection(h *Hub, open map[backplane.NodeID]int, home backplane.NodeID, id string) {
	if c := h.connections.get([]byte(id)); c != nil {
		p.local = append(p.local, c)
		return
	}
	addr := backplane.Inbox(home).In(h.name)
	if home == h.home {
		p.missing = append(p.missing, FailedTarget{Address: addr, Connections: []string{id}, Err: ErrNotFound})
		return
	}
	i, ok := open[home]
	if !ok || len(p.inboxes[i].ids) == maxInboxIDs {
		i = len(p.inboxes)
		open[home] = i
		p.inboxes = append(p.inboxes, inbox{addr: addr})
	}
	p.inboxes[i].ids = append(p.inboxes[i].ids, id)
}

// exceptSet checks an except-list.
func exceptSet(ids []string) (map[string]struct{}, error) {
	if len(ids) > MaxExcept {
		return nil, fmt.Errorf("%w: %d exceptions are more than %d", ErrInvalidTarget, len(ids), MaxExcept)
	}
	var set map[string]struct{}
	for _, id := range ids {
		if _, ok := homeOf(id); !ok {
			return nil, fmt.Errorf("%w: %.64q in Except is no connection id", ErrInvalidTarget, id)
		}
		if set == nil {
			set = make(map[string]struct{}, len(ids))
		}
		set[id] = struct{}{}
	}
	return set, nil
}

// overlaps reports whether a connection could be reached by several of the plan's messages: it is in several groups, or
// in one and of a user. It has one user and one id.
func (p *plan) overlaps() bool {
	kinds := 0
	for _, there := range []bool{p.groups > 0, len(p.addresses) > p.groups, len(p.inboxes) > 0 || len(p.local) > 0} {
		if there {
			kinds++
		}
	}
	return kinds > 1 || p.groups > 1
}

func (p *plan) total() int {
	return len(p.addresses) + len(p.inboxes) + len(p.local) + len(p.missing)
}

// batch makes the messages to publish, those of the addresses first.
func (p *plan) batch(content parcel) []backplane.Outgoing {
	batch := make([]backplane.Outgoing, 0, len(p.addresses)+len(p.inboxes))
	if len(p.addresses) > 0 {
		encoded := content.encode()
		for _, a := range p.addresses {
			batch = append(batch, backplane.Outgoing{To: a, Payload: encoded})
		}
	}
	content.except = nil // these were left out of the plan
	for _, in := range p.inboxes {
		content.connections = newIDList(in.ids)
		batch = append(batch, backplane.Outgoing{To: in.addr, Payload: content.encode()})
	}
	return batch
}

// failures sorts the errors of a batch by target.
func (p *plan) failures(errs []error) []FailedTarget {
	var failed []FailedTarget
	for i, err := range errs {
		if err == nil {
			continue
		}
		if i < len(p.addresses) {
			failed = append(failed, FailedTarget{Address: p.addresses[i], Err: err})
			continue
		}
		in := p.inboxes[i-len(p.addresses)]
		failed = append(failed, FailedTarget{Address: in.addr, Connections: in.ids, Err: err})
	}
	return failed
}

// distinct returns names in order, each once.
func distinct(names []string) []string {
	if len(names) < 2 {
		return names
	}
	seen := make(map[string]struct{}, len(names))
	once := make([]string, 0, len(names))
	for _, name := range names {
		if _, again := seen[name]; !again {
			seen[name] = struct{}{}
			once = append(once, name)
		}
	}
	return once
}
