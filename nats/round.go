package nats

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gobackplane/backplane/transport"
)

type verb int

const (
	publishing verb = iota
	subscribing
	unsubscribing
)

// round is a row of requests with a PING behind them. What the server refuses it says before it answers that.
type round struct {
	verb verb
	size int
	name func(i int) string // the channel of a request

	// Guarded by link.mu while the round is in link.rounds.
	index map[string]int // of the names, made when it is needed
	errs  []error        // nil as long as nothing failed
	full  bool           // the server said that there are too many subscriptions
}

func (r *round) set(i int, err error) {
	if r.errs == nil {
		r.errs = make([]error, r.size)
	}
	r.errs[i] = err
}

// refuse marks the first request for a channel that is not marked yet as refused. It returns false if there is none.
func (r *round) refuse(channel string, err error) bool {
	if r.index == nil {
		r.index = make(map[string]int, r.size)
		for i := r.size - 1; i >= 0; i-- {
			r.index[r.name(i)] = i
		}
	}
	i, ok := r.index[channel]
	for ; ok && i < r.size; i++ {
		if r.name(i) == channel && (r.errs == nil || r.errs[i] == nil) {
			r.set(i, err)
			return true
		}
	}
	return false
}

func (l *link) begin(r *round) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rounds = append(l.rounds, r)
}

// finish takes a round back and returns what became of its requests.
func (l *link) finish(r *round) []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rounds = slices.DeleteFunc(l.rounds, func(other *round) bool { return other == r })
	return r.errs
}

// notice is called by nats.go, on a goroutine that it has for this, with what the server complains about and what went
// wrong.
func (l *link) notice(_ *natsgo.Conn, sub *natsgo.Subscription, err error) {
	switch {
	case errors.Is(err, natsgo.ErrPermissionViolation):
		l.violation(err)
	case errors.Is(err, natsgo.ErrMaxSubscriptionsExceeded):
		l.exceeded()
	case errors.Is(err, natsgo.ErrSlowConsumer) && l.owns(sub):
		l.end(errOverrun, false)
	case errors.Is(err, natsgo.ErrAuthExpired), errors.Is(err, natsgo.ErrAuthRevoked), errors.Is(err, natsgo.ErrAccountAuthExpired),
		errors.Is(err, natsgo.ErrAuthorization): // the server closes the connection
		l.end(denied(nil, "the server said "+clean(err)), false)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.newest = err
	close(l.news)
	l.news = make(chan struct{})
}

// closed is called by nats.go when the connection has ended.
func (l *link) closed(nc *natsgo.Conn) {
	err := nc.LastError()
	if err == nil {
		err = natsgo.ErrConnectionClosed
	}
	l.end(unavailable(err, "the connection failed"), false)
}

func (l *link) owns(sub *natsgo.Subscription) bool {
	if sub == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.subs[sub.Subject] == sub
}

// settled waits until notice has seen what nats.go's reader has read before: it notes an error at once, and has it told a
// little later.
func (l *link) settled(ctx context.Context) error {
	for {
		last := l.nc.LastError()
		l.mu.Lock()
		seen, news := last == nil || l.newest == last, l.news //nolint:errorlint // the very one: each violation is another
		l.mu.Unlock()
		if seen {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		case <-l.dead:
			return l.cause
		}
	}
}

// violation finds out what it is that the server does not permit: the oldest request for this channel, or a subscription
// that was in force, and is not any more.
func (l *link) violation(err error) {
	text := err.Error()
	v := publishing
	_, channel, ok := strings.Cut(text, `Publish to "`)
	if !ok {
		v = subscribing
		_, channel, ok = strings.Cut(text, `Subscription to "`)
	}
	channel, _, quoted := strings.Cut(channel, `"`)
	if !ok || !quoted {
		return
	}
	refused := l.bus.forbidden(v)
	l.mu.Lock()
	for _, r := range l.rounds {
		if r.verb == v && r.refuse(channel, refused) {
			l.mu.Unlock()
			return
		}
	}
	sub := l.subs[channel]
	switch {
	case v == publishing:
		l.refuse(channel)
	case sub == nil:
		l.refuseInbox(channel)
	}
	if v == publishing || sub == nil {
		l.mu.Unlock()
		return
	}
	delete(l.subs, channel)
	l.mu.Unlock()
	_ = sub.Unsubscribe() // the server does not hold it; nats.go need not either
	l.mark(context.Background(), func() {
		l.bus.sink.Gap(transport.OnlyLink, []string{channel}, true, errEnded)
	})
}

// exceeded notes that the server refuses a subscription because there are too many. It does not say which one.
func (l *link) exceeded() {
	l.mu.Lock()
	known := false
	for _, r := range l.rounds {
		if r.verb == subscribing {
			r.full, known = true, true
		}
	}
	l.mu.Unlock()
	if !known { // one that counts as confirmed
		l.end(errTooMany, false)
	}
}

// quiet waits until notice has had nothing to do for a while. Refusals for the number of subscriptions are all one value, so that
// settled cannot tell whether the last of them was seen.
func (l *link) quiet(ctx context.Context) {
	for {
		l.mu.Lock()
		news := l.news
		l.mu.Unlock()
		select {
		case <-news:
		case <-time.After(grace):
			return
		case <-ctx.Done():
			return
		case <-l.dead:
			return
		}
	}
}
