package lying

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gobackplane/backplane/internal/wire"
	"github.com/gobackplane/backplane/transport"
)

// liar is the lying transport of one node. What it asks of the broker is here, what comes in is in receive.go.
type liar struct {
	inner transport.Transport
	book  *Book
	node  transport.NodeID

	// mu is held while the sink is called, so that late frames keep the rules of transport.Sink. The inner transport
	// calls the sink under locks of its own, so nothing of it is called with mu held.
	mu   sync.Mutex
	sink transport.Sink               // guarded by mu, as is all below
	deaf map[transport.Link]bool      // nothing comes in
	lost map[string]bool              // nothing comes in on these channels, though they are confirmed
	mute map[wire.Publisher]time.Time // nothing comes in of these until then
	held []*held                      // frames that will arrive late
	gone bool                         // closed
}

var _ transport.Transport = (*liar)(nil)

// Limits implements [transport.Transport].
func (l *liar) Limits() transport.Limits { return l.inner.Limits() }

// Link implements [transport.Transport].
func (l *liar) Link(channel string) transport.Link { return l.inner.Link(channel) }

// Start implements [transport.Transport].
func (l *liar) Start(s transport.Sink) {
	l.mu.Lock()
	l.sink = s
	l.mu.Unlock()
	l.inner.Start(receiver{l})
}

// Connect implements [transport.Transport]. It ends what lasted.
func (l *liar) Connect(ctx context.Context, link transport.Link) error {
	l.forget(link)
	return l.inner.Connect(ctx, link) //nolint:wrapcheck // the inner transport's word, as it is
}

// Disconnect implements [transport.Transport].
func (l *liar) Disconnect(link transport.Link) {
	l.inner.Disconnect(link)
	l.forget(link)
}

// Close implements [transport.Transport].
func (l *liar) Close() error {
	err := l.inner.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone = true
	for _, h := range l.held {
		h.timer.Stop()
	}
	l.held = nil
	return err //nolint:wrapcheck // the inner transport's word, as it is
}

// forget ends what lasted on a link, and loses what was held back.
func (l *liar) forget(link transport.Link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.deaf, link)
	for channel := range l.lost {
		if l.inner.Link(channel) == link {
			delete(l.lost, channel)
		}
	}
	kept := l.held[:0]
	for _, h := range l.held {
		if h.link == link {
			h.timer.Stop()
			continue
		}
		kept = append(kept, h)
	}
	clear(l.held[len(kept):])
	l.held = kept
}

// Publish implements [transport.Transport].
func (l *liar) Publish(ctx context.Context, link transport.Link, frames []transport.Frame) []error {
	lies, places := make([]Lie, len(frames)), make([]int, len(frames))
	sent := make([]transport.Frame, 0, len(frames))
	for i, f := range frames {
		lies[i] = l.book.draw(SentUnknown, LostUnknown, LostTaken, Refused)
		places[i] = l.book.write(Entry{Node: l.node, Lie: lies[i], Out: true, Channel: f.Channel, Data: slices.Clone(f.Data)})
		if lies[i] == "" || lies[i] == SentUnknown {
			sent = append(sent, f)
		}
	}
	var truth []error
	if len(sent) > 0 {
		truth = l.inner.Publish(ctx, link, sent)
	}
	errs := make([]error, len(frames))
	failed := false
	next := 0
	for i, lie := range lies {
		switch lie {
		case LostUnknown:
			errs[i] = fmt.Errorf("%w: a lie", transport.ErrUncertain)
		case Refused:
			errs[i] = fmt.Errorf("%w: a rare truth", transport.ErrUnavailable)
		case LostTaken:
		default:
			if truth != nil {
				errs[i] = truth[next]
			}
			next++
			if lie == SentUnknown && errs[i] == nil {
				errs[i] = fmt.Errorf("%w: a lie", transport.ErrUncertain)
			}
		}
		l.book.answer(places[i], errs[i])
		failed = failed || errs[i] != nil
	}
	if !failed {
		return nil
	}
	return errs
}

// Subscribe implements [transport.Transport].
func (l *liar) Subscribe(ctx context.Context, link transport.Link, channels []string) []error {
	return l.request(ctx, link, channels, l.inner.Subscribe, FalseConfirm, FalseFailure)
}

// Unsubscribe implements [transport.Transport].
func (l *liar) Unsubscribe(ctx context.Context, link transport.Link, channels []string) []error {
	l.mu.Lock()
	for _, channel := range channels {
		delete(l.lost, channel)
	}
	l.mu.Unlock()
	return l.request(ctx, link, channels, l.inner.Unsubscribe, FalseLeave, FalseFailure)
}

// request asks the inner transport for what is not lied about, and returns one answer for each channel.
func (l *liar) request(
	ctx context.Context, link transport.Link, channels []string,
	ask func(context.Context, transport.Link, []string) []error, lies ...Lie,
) []error {
	told := make([]Lie, len(channels))
	asked := make([]string, 0, len(channels))
	for i, channel := range channels {
		if told[i] = l.book.draw(lies...); told[i] != "" {
			l.book.write(Entry{Node: l.node, Lie: told[i], Channel: channel})
		}
		if told[i] == "" || told[i] == FalseFailure {
			asked = append(asked, channel)
		}
	}
	var truth []error
	if len(asked) > 0 {
		truth = ask(ctx, link, asked)
	}
	if l.book.draw(Slow) != "" {
		late := time.NewTimer(l.book.within(slowest))
		defer late.Stop()
		select {
		case <-late.C:
		case <-ctx.Done():
		}
	}
	errs := make([]error, len(channels))
	failed := false
	next := 0
	for i, lie := range told {
		if lie == "" || lie == FalseFailure {
			if truth != nil {
				errs[i] = truth[next]
			}
			next++
		}
		if lie == FalseFailure && errs[i] == nil {
			errs[i] = fmt.Errorf("%w: a lie", transport.ErrUnavailable)
		}
		failed = failed || errs[i] != nil
	}
	if !failed {
		return nil
	}
	return errs
}
