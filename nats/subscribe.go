package nats

import "context"

// How many requests stand before one PING. At each refusal nats.go looks through all subscriptions there are, with its lock
// held: with 100,000 of them that takes 5 to 15 ms. A thousand refusals behind one another would hold everything up until the
// link passes for dead. So with many subscriptions a call begins with few requests, and asks more at a time while none is
// refused.
const (
	batchChannels = 2048
	batchLeast    = 16
	batchLooks    = 4_000_000 // subscriptions looked at in half a second
)

// batch is how many requests may be refused without holding others up for long.
func (l *link) batch() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return min(max(batchLooks/(len(l.subs)+1), batchLeast), batchChannels)
}

// change sends requests for the channels and returns when all of them are confirmed or refused.
func (l *link) change(ctx context.Context, v verb, channels []string) []error {
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
	size := l.batch()
	for from := 0; from < len(channels); {
		part := channels[from:min(from+size, len(channels))]
		refused, err := l.ask(ctx, v, part)
		for i, err := range refused {
			if err != nil {
				fail(from+i, err)
			}
		}
		if err != nil {
			return rest(from, err)
		}
		from += len(part)
		if size = min(2*size, batchChannels); refused != nil {
			size = l.batch()
		}
	}
	if err := l.handedOver(ctx); err != nil {
		return rest(0, err)
	}
	return errs
}

// ask sends requests, with one PING behind them. What the server refused is in errs; the others are confirmed unless there
// is err.
func (l *link) ask(ctx context.Context, v verb, channels []string) (errs []error, err error) {
	ctx, release := l.bound(ctx)
	defer release()
	r := &round{verb: v, size: len(channels), name: func(i int) string { return channels[i] }}
	l.begin(r)
	for _, channel := range channels {
		if v == subscribing {
			err = l.enter(ctx, channel)
		} else {
			err = l.leave(channel)
		}
		if err != nil {
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
			_ = l.leave(channels[i])
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
func (l *link) leave(channel string) error {
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
