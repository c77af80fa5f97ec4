package hubkit

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/gobackplane/backplane"
)

// The limits of [Hub.List].
const (
	DefaultPage = 100  // connections on a page where ListOptions.Limit is 0
	MaxPage     = 1000 // and at most
)

// ListOptions say which page of a listing is wanted. The zero value is the first page.
type ListOptions struct {
	// Limit is how many connections the page may hold, at most [MaxPage]. Default [DefaultPage].
	Limit int
	// Token is the Next of the page before; "" for the first page.
	Token string
}

// Page is a part of a listing.
type Page struct {
	Connections []ConnectionInfo
	// Next is the token of the page that follows; "" after the last one. A page that has one may hold fewer connections than
	// asked for, even none.
	Next string
	// Coverage tells of the instances that this page looked at.
	Coverage
}

// ConnectionInfo describes a connection of any instance.
type ConnectionInfo struct {
	ID       string
	User     string // "" for none
	Label    string // the connection's ConnectOptions.Label
	Metadata map[string]string
	Since    time.Time        // when it was made, by the clock of its instance
	Node     backplane.NodeID // its instance
	Instance string           // that one's Options.Label
}

// List returns the connections that a target means, each once, a page at a time: sorted by instance and id, which have no
// meaning but stay as they are. A connection that is there from the first page to the last is on one of them;
// one that comes or goes meanwhile may be. An instance that does not answer is named in the page's [Coverage], and its
// connections are on no page of this listing.
//
// The token is for the same target on a hub of the same name, on any instance; with another one, or one that another version made,
// the error is [ErrInvalidToken]. It is opaque, at most 200 bytes, and safe in URLs, and keeps no state anywhere; it is no
// secret and no credential. The other errors are those of [Hub.Count], and ErrInvalidOption for the limit.
func (h *Hub) List(ctx context.Context, of Target, o ListOptions) (Page, error) {
	if err := h.enter(); err != nil {
		return Page{}, h.fail("list", err)
	}
	defer h.leave()
	p, err := h.list(ctx, of, o)
	if err = h.orClosed(err); err != nil {
		return Page{}, h.fail("list", err)
	}
	return p, nil
}

func (h *Hub) list(ctx context.Context, of Target, o ListOptions) (Page, error) {
	if o.Limit < 0 || o.Limit > MaxPage {
		return Page{}, invalidOption("Limit", "must be 0 to %d, not %d", MaxPage, o.Limit)
	}
	s, at, wide, err := h.selection(of)
	if err != nil {
		return Page{}, err
	}
	s.connections = at.all()
	l := listing{hub: h, of: s, mark: s.fingerprint(h.name), limit: cmp.Or(o.Limit, DefaultPage)}
	after, err := readToken(o.Token, l.mark)
	if err != nil {
		return Page{}, err
	}
	if h.cluster == nil && (wide || len(at) > 1 || len(at) == 1 && at[h.home] == nil) {
		return Page{}, errNoCluster
	}
	ctx, cancel := askContext(ctx)
	defer cancel()
	defer context.AfterFunc(h.closing, cancel)()
	l.page.Settling = wide && h.settling()
	l.run(ctx, l.nodes(at, wide), after)
	l.page.Settling = l.page.Settling || wide && h.settling()
	return l.page, nil
}

// listing is the making of one page. It asks the instances in their order, a few at first and more at a time while the
// page is not full, so that a page of a large group asks few, and one of a scattered group does not ask one by one.
type listing struct {
	hub    *Hub
	of     selection
	mark   fingerprint
	limit  int
	labels map[backplane.NodeID]string
	page   Page
}

// nodes returns the instances that may have connections, sorted.
func (l *listing) nodes(at homes, wide bool) []backplane.NodeID {
	l.labels = l.hub.labels()
	if wide {
		return slices.Sorted(maps.Keys(l.labels))
	}
	return slices.Sorted(maps.Keys(at))
}

// run fills the page from what comes after a place.
func (l *listing) run(ctx context.Context, nodes []backplane.NodeID, after place) {
	from, _ := slices.BinarySearch(nodes, after.home)
	nodes = nodes[from:]
	for most := 1; len(nodes) > 0; most = min(2*most, askedAtOnce) {
		now := nodes[:min(most, len(nodes))]
		nodes = nodes[len(now):]
		answers := l.round(ctx, now, after)
		for i, a := range answers {
			if a.err != nil {
				l.page.Missing = append(l.page.Missing, FailedNode{Node: now[i], Label: l.labels[now[i]], Err: a.err})
				continue
			}
			room := l.limit - len(l.page.Connections)
			rest := a.more || len(a.list) > room
			l.page.Connections = append(l.page.Connections, a.list[:min(room, len(a.list))]...)
			full := len(l.page.Connections) == l.limit
			if rest || full && (i < len(answers)-1 || len(nodes) > 0) {
				l.page.Next = l.mark.token(l.page.Connections[len(l.page.Connections)-1].ID)
				return
			}
		}
	}
}

// round asks some instances at the same time. It takes at most half of the time that is left, so that one which does not answer
// leaves the others theirs.
func (l *listing) round(ctx context.Context, nodes []backplane.NodeID, after place) []listed {
	deadline, _ := ctx.Deadline()
	ctx, cancel := context.WithTimeout(ctx, time.Until(deadline)/2)
	defer cancel()
	return inParallel(nodes, func(node backplane.NodeID) listed {
		return l.ask(ctx, node, after.on(node), l.limit-len(l.page.Connections))
	})
}

// listed is what one instance has to list.
type listed struct {
	list []ConnectionInfo
	more bool // and there is more
	err  error
}

// ask asks an instance for its connections after an id. Where its answer would be larger than its node can send, it is asked for
// less.
func (l *listing) ask(ctx context.Context, node backplane.NodeID, after string, limit int) listed {
	q := listQuestion{of: l.of, after: after, limit: limit, bytes: listBytes}
	for {
		s := said{node: node}
		if node == l.hub.home {
			s.answer = l.hub.listHere(&q)
		} else {
			s = l.hub.askNode(ctx, node, q.encode())
		}
		switch {
		case s.nobody, errors.Is(s.err, ErrNotFound):
			return listed{}
		case errors.Is(s.err, backplane.ErrTooLarge) && q.bytes > listBytesLeast:
			q.bytes /= 4
			continue
		case s.err != nil:
			return listed{err: s.err}
		}
		a, err := decodeList(s.answer, node, limit)
		if err != nil {
			return listed{err: err}
		}
		for i := range a.list {
			a.list[i].Node, a.list[i].Instance = node, l.labels[node]
		}
		return a
	}
}

func (h *Hub) answerList(b []byte) ([]byte, error) {
	q, err := decodeListQuestion(b)
	if err != nil {
		return nil, err
	}
	return append(newAnswer(statusOK), h.listHere(&q)...), nil
}

// listHere lists the connections of this instance that come after an id, the first ones.
func (h *Hub) listHere(q *listQuestion) []byte {
	most := q.limit + 1 // one more tells that there are more
	var first []*Connection
	byID := func(a, b *Connection) int { return cmp.Compare(a.id, b.id) }
	cut := func() {
		slices.SortFunc(first, byID)
		first = first[:min(most, len(first))]
	}
	h.visit(&q.of, func(c *Connection) {
		if c.id <= q.after {
			return
		}
		if first = append(first, c); len(first) >= 2*most {
			cut()
		}
	})
	cut()
	return encodeList(first, q)
}
