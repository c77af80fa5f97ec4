package hubkit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gobackplane/backplane"
)

// How a client comes back. Connect checks the token, which needs nobody; asks all instances what they know of the session; has the hook
// decide; subscribes the groups. Only then the old connection is closed, by the instance that has it, which tells what that had last; what
// it left in the meantime is left out. The new connection is made, and all others are told, now or when they can be.

var errNoResume = fmt.Errorf("%w: the hub was made without Resume", backplane.ErrUnsupported)

// comeback is a connection that is being made of a token.
type comeback struct {
	token *resumeToken
	known known
	what  Resumption
	// The groups to restore, pinned and subscribed. Who makes the connection takes the pins over.
	topics []*topic

	// What happens meanwhile, see coming.go. Guarded by the session table's mu.
	newest  string      // the id of the newest connection that is known
	left    []string    // groups
	leftAll bool        // all of them
	ended   bool        // the session
	made    *Connection // what comes from now on is done to it
}

// known is what all instances together know of a session.
type known struct {
	ended   bool
	top     rank        // the highest
	last    sessionView // of the connection whose groups are known, the newest such one
	holders []backplane.NodeID
}

// spacer is the optional ability to tell the namespace. [backplane.Node] has it; over others tokens are bound to the hub only.
type spacer interface{ Namespace() string }

func scopeOf(bp backplane.Backplane, hub string) scope {
	namespace := ""
	if in, ok := bp.(spacer); ok {
		namespace = in.Namespace()
	}
	return newScope(namespace, hub)
}

// begin makes a connection the first of its session, or the next one.
func (c *Connection) begin(b *comeback) {
	if !c.hub.opts.Resume.on() {
		return
	}
	c.resume = &resumeState{generation: 1}
	if b == nil {
		_, _ = rand.Read(c.resume.session[:]) // never fails: see crypto/rand
		return
	}
	c.resume.session, c.resume.generation, c.resume.back = b.token.session, b.what.Generation, true
	c.out.tail = mark{gap: b.gap(time.Unix(0, c.since))}
}

// restore puts a connection into the groups that are ready for it, before it is in anything else. nil is fine. The connection's mu is held.
func (b *comeback) restore(c *Connection) {
	if b == nil {
		return
	}
	for _, t := range c.hub.sessions.makes(b, c) {
		c.groups.add(t.add(c))
	}
}

// openToken reads the token of ConnectOptions; nil if there is none.
func (h *Hub) openToken(o *ConnectOptions) (*resumeToken, error) {
	if o.Resume == "" {
		return nil, nil //nolint:nilnil // no token is no error
	}
	r := &h.opts.Resume
	if !r.on() {
		return nil, errNoResume
	}
	now := time.Now()
	t, err := r.open(o.Resume, h.scope, now)
	switch {
	case err != nil:
		return nil, err
	case o.User != "" && o.User != t.user:
		return nil, ErrResumeUser
	case h.sessions.isEnded(t.session, now):
		return nil, ErrResumeEnded
	}
	return t, nil
}

// comeBack prepares everything for a connection of a token that may wait or fail. Without an error the caller releases it, also when
// the connection was made.
func (h *Hub) comeBack(ctx context.Context, b *comeback, o *ConnectOptions) error {
	t := b.token
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(h.closing, cancel)() // Close waits for this call, and must not wait for a store or a hook that hangs
	if err := h.checkRecord(ctx, t.session); err != nil {
		return err
	}
	if err := h.getAcquainted(ctx); err != nil {
		return err
	}
	var err error
	if b.known, err = h.askPast(ctx, t.session); err != nil {
		return err
	}
	if b.known.ended {
		h.sessions.end(t.session, time.Now().Add(h.opts.Resume.keep()))
		return ErrResumeEnded
	}
	h.sessions.know(b, b.known.top.id)
	b.what = b.resumption()
	restore := h.opts.Resume.Restore
	if restore == nil {
		return nil
	}
	what := b.what
	what.Groups = slices.Clone(what.Groups)
	groups, err := restore(ctx, what)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrResumeDeclined, err)
	}
	groups = distinct(groups)
	for _, g := range groups {
		if err = backplane.Group(g).In(h.name).Validate(); err != nil {
			return fmt.Errorf("a group that Resume.Restore returned: %w", err)
		}
	}
	o.User = t.user
	for _, g := range groups {
		b.topics = append(b.topics, h.groups.pin(g))
	}
	for _, err = range inParallel(b.topics, func(t *topic) error { return t.ensure(ctx) }) {
		if err != nil {
			b.release(h)
			return err
		}
	}
	return nil
}

// release gives back what was pinned. nil is fine.
func (b *comeback) release(h *Hub) {
	if b == nil {
		return
	}
	for _, t := range b.topics {
		h.groups.unpin(h.ctx, t)
	}
	b.topics = nil
}

// resumption is what is known of the session, for the hook.
func (b *comeback) resumption() Resumption {
	t, last := b.token, &b.known.last
	r := Resumption{
		Session: t.session.String(), User: t.user, Groups: t.groups, Trimmed: t.trimmed, Issued: t.issued, Expires: t.expires(),
		Generation: max(t.generation, b.known.top.generation) + 1,
	}
	of := t.generation
	if last.had >= of {
		of, r.Groups, r.Trimmed = last.had, last.groups, false
	}
	r.Stale = b.known.top.generation > of
	return r
}

// String is the session's id as text.
func (id sessionID) String() string { return idText.EncodeToString(id[:]) }

// getAcquainted waits while this instance is so new that it may know none of the others, who know what was ended.
func (h *Hub) getAcquainted(ctx context.Context) error {
	if h.cluster == nil || h.sessionStore() != nil || !h.settling() {
		return nil
	}
	timer := time.NewTimer(time.Until(h.made.Add(resumePatience)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-h.closing.Done():
		return backplane.ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", backplane.ErrUnavailable, context.Cause(ctx))
	}
}

// askPast asks all instances what they know of a session. An instance that does not answer in time is not waited for: when it is heard
// again it is told.
func (h *Hub) askPast(ctx context.Context, id sessionID) (known, error) {
	var k known
	if h.cluster == nil {
		k.learn(h.home, h.sessions.look(id))
		return k, nil
	}
	q := sessionQuestion{session: id}
	var answers []said
	err := h.whenAvailable(ctx, func() (err error) {
		answers, err = h.askPatiently(ctx, q.encode())
		return err
	})
	for _, s := range answers {
		if v, unread := decodeSessionView(s.answer); unread == nil {
			k.learn(s.node, v)
		}
	}
	return k, err
}

// tryAgain is how long a resume waits for this node's own link before it tries again.
const tryAgain = 100 * time.Millisecond

// whenAvailable does something that needs this node's own link. While that is down it waits, like all of Connect, until the context
// ends.
func (h *Hub) whenAvailable(ctx context.Context, f func() error) error {
	timer := time.NewTimer(tryAgain)
	defer timer.Stop()
	for {
		err := f()
		if !errors.Is(err, backplane.ErrUnavailable) || errors.Is(err, backplane.ErrUncertain) {
			return err
		}
		timer.Reset(tryAgain)
		select {
		case <-timer.C:
		case <-h.closing.Done():
			return backplane.ErrClosed
		case <-ctx.Done():
			return err
		}
	}
}

// askPatiently asks everybody and returns what was answered in time. Who is too busy is asked again: it may be the one who knows.
func (h *Hub) askPatiently(ctx context.Context, question []byte) ([]said, error) {
	ctx, cancel := context.WithTimeout(ctx, resumePatience)
	defer cancel()
	defer context.AfterFunc(h.closing, cancel)()
	busy := func(f FailedNode) bool { return errors.Is(f.Err, backplane.ErrBusy) }
	answers, missed, err := h.askEverybody(ctx, question)
	for err == nil && slices.ContainsFunc(missed.Missing, busy) {
		timer := time.NewTimer(tryAgain)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return answers, nil
		}
		var again []said
		if again, missed, err = h.askEverybody(ctx, question); err != nil {
			return answers, nil
		}
		answers = again
	}
	return answers, err
}

// learn adds what an instance knows.
func (k *known) learn(node backplane.NodeID, v sessionView) {
	switch v.state {
	case sessionEnded:
		k.ended = true
	case sessionHere, sessionAbsent:
		if v.rank.compare(k.top) > 0 {
			k.top = v.rank
		}
		if v.had > k.last.had {
			k.last = v
		}
		if v.state == sessionHere || v.had > 0 {
			k.holders = append(k.holders, node)
		}
	case sessionUnknown:
	}
}

// takeOver closes the old connection of a session, wherever it is and can be reached, in favour of a new one that is about to be
// registered. Groups that the old one has left meanwhile are not restored.
func (h *Hub) takeOver(ctx context.Context, c *Connection, b *comeback) error {
	q := sessionQuestion{session: b.token.session, take: true, rank: c.rank(), keep: h.opts.Resume.keep()}
	ctx, cancel := context.WithTimeout(ctx, resumePatience)
	defer cancel()
	defer context.AfterFunc(h.closing, cancel)()
	for _, v := range inParallel(b.known.holders, func(node backplane.NodeID) sessionView { return h.takeAt(ctx, node, &q) }) {
		switch {
		case v.state == sessionEnded:
			return ErrResumeEnded
		case v.rank.compare(q.rank) > 0:
			return ErrResumeReplaced
		case v.had > 0 && v.had == b.known.last.had:
			b.leave(h, v.groups)
		}
	}
	return nil
}

// takeAt has an instance make room; the zero view if it does not answer, or has not known the session.
func (h *Hub) takeAt(ctx context.Context, node backplane.NodeID, q *sessionQuestion) sessionView {
	if node == h.home || h.cluster == nil {
		return h.sessions.take(q.session, q.rank, time.Now().Add(q.keep))
	}
	s := h.askNode(ctx, node, q.encode())
	if s.err != nil || s.nobody {
		return sessionView{}
	}
	v, err := decodeSessionView(s.answer)
	if err != nil {
		return sessionView{}
	}
	return v
}

// leave takes out the groups that the old connection had when it was asked, and has no more.
func (b *comeback) leave(h *Hub, still []string) {
	b.topics = slices.DeleteFunc(b.topics, func(t *topic) bool {
		name := t.addr.Name()
		gone := slices.Contains(b.what.Groups, name) && !slices.Contains(still, name)
		if gone {
			h.groups.unpin(h.ctx, t)
		}
		return gone
	})
}

// errAway is the cause of the gap that a connection is told of first.
var errAway = errors.New("the client was away")

// gap is what a client that comes back is told before anything else.
func (b *comeback) gap(now time.Time) *Gap {
	since := b.what.Issued
	if since.After(now) {
		since = now
	}
	return &Gap{Cause: backplane.GapLink, Since: since, Err: errAway}
}

// registerUser makes a connection one of the hub's, in the groups of its user and of its past, and closes an older one of its session.
func (h *Hub) registerUser(c *Connection, user *topic, g *grants, b *comeback) error {
	older, err := h.registerGranted(c, user, g, b)
	if err != nil {
		return err
	}
	if older != nil {
		older.replaced()
	}
	if b != nil {
		h.cameBack(c)
	}
	h.handout.change(c)
	return nil
}

// cameBack finishes a resume when the connection is there.
func (h *Hub) cameBack(c *Connection) {
	h.stats.resumed.Add(1)
	h.announcer.add(notice{session: c.resume.session, rank: c.rank(), until: time.Now().Add(h.opts.Resume.keep())})
	c.out.mu.Lock()
	start := c.wakeLocked()
	c.out.mu.Unlock()
	if start {
		go c.run() // the gap is told also where nothing else comes
	}
}
