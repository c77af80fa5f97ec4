package nats

import (
	"context"
)

// batchChannels is how many requests stand before one PING.
const batchChannels = 2048

// change sends requests for the channels and returns when all of them are confirmed or refused.
func (l *link) change(ctx context.Context, act func(*link, context.Context, string) error, channels []string) []error {
	if ctx.Err() != nil {
		return all(len(channels), unavailable(ctx.Err(), "nothing was sent"))
	}
	select {
	case <-l.turn:
		defer func() { l.turn <- struct{}{} }()
	case <-ctx.Done():
		return all(len(channels), unavailable(ctx.Err(), "nothing was sent"))
	case <-l.dead:
		return all(len(channels), l.cause)
	}
	var errs []error
	fail := func(i int, err error) {
		if errs == nil {
			errs = make([]error, len(channels))
		}
		errs[i] = err
	}
	rest := func(from int, err error) []error {
		for i := from; i < len(channels); i++ {
			if errs == nil || errs[i] == nil {
				fail(i, err)
			}
		}
		return errs
	}
	for from := 0; from < len(channels); from += batchChannels {
		part := channels[from:min(from+batchChannels, len(channels))]
		refused, err := l.ask(ctx, act, part)
		for i, err := range refused {
			if err != nil {
				fail(from+i, err)
			}
		}
		if err != nil {
			return rest(from, err)
		}
	}
	if err := l.handedOver(ctx); err != nil {
		return rest(0, err)
	}
	return errs
}

// ask sends requests, with one PING behind them. What the server refused is in errs; the others are confirmed unless there
// is err.
func (l *link) ask(ctx context.Context, act func(*link, context.Context, string) error, channels []string) (errs []error, err error) {
	ctx, release := l.bound(ctx)
	defer release()
	r := &round{verb: subscribing, size: len(channels), name: func(i int) string { return channels[i] }}
	l.begin(r)
	for _, channel := range channels {
		if err = act(l, ctx, channel); err != nil {
			break
		}
	}
	if err == nil {
		err = l.flush(ctx)
	}
	l.mu.Lock()
	l.full = l.full || r.full
	full := l.full
	l.mu.Unlock()
	if full {
		l.quiet(ctx)
	}
	errs = l.finish(r)
	if r.full { // for which of them, the server did not say
		errs = all(len(channels), errTooMany)
	}
	for i, refused := range errs {
		if refused != nil {
			_ = l.leave(ctx, channels[i])
		}
	}
	return errs, err
}

// enter subscribes, unless that was done before.
func (l *link) enter(ctx context.Context, channel string) error {
	if ctx.Err() != nil {
		return unavailable(ctx.Err(), "it was not confirmed")
	}
	l.mu.Lock()
	_, held := l.subs[channel]
	l.mu.Unlock()
	if held {
		return nil
	}
	sub, err := l.nc.ChanSubscribe(channel, l.inbox)
	if err != nil {
		return unavailable(err, "cannot subscribe")
	}
	l.mu.Lock()
	l.subs[channel] = sub
	l.mu.Unlock()
	return nil
}

// leave unsubscribes, unless that was done before.
func (l *link) leave(_ context.Context, channel string) error {
	l.mu.Lock()
	sub := l.subs[channel]
	delete(l.subs, channel)
	l.mu.Unlock()
	if sub == nil {
		return nil
	}
	if err := sub.Unsubscribe(); err != nil {
		return unavailable(err, "cannot unsubscribe")
	}
	return nil
}
