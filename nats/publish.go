package nats

import (
	"context"
	"errors"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gobackplane/backplane/transport"
)

// publish sends frames and waits for the server's word on them: it has taken what it has not complained about when it
// answers the PING behind them.
func (l *link) publish(ctx context.Context, frames []transport.Frame) []error {
	if ctx.Err() != nil {
		return all(len(frames), unavailable(ctx.Err(), "nothing was sent"))
	}
	ctx, release := l.bound(ctx)
	defer release()
	wire := l.wire.Load()
	before := wire.sent.Load()
	r := &round{verb: publishing, size: len(frames), name: func(i int) string { return frames[i].Channel }}
	l.begin(r)
	begun, err := l.write(ctx, r, frames)
	if err == nil {
		err = l.flush(ctx)
	}
	if err != nil { // what the server says later would be taken for its word on the next frames
		l.end(classed(err, "a publish failed"), false)
		err = l.cause
	}
	errs := l.finish(r)
	if err == nil {
		return errs
	}
	if errs == nil {
		errs = make([]error, len(frames))
	}
	left := wire.sent.Load() > before
	for i := range errs {
		switch {
		case errs[i] != nil:
		case !left, i >= begun:
			errs[i] = unavailable(err, "it was not sent")
		default:
			errs[i] = uncertain(err)
		}
	}
	return errs
}

// write hands the frames to nats.go, and returns how many of them may have left.
func (l *link) write(ctx context.Context, r *round, frames []transport.Frame) (begun int, err error) {
	for i, f := range frames {
		if ctx.Err() != nil {
			return i, unavailable(ctx.Err(), "the server does not take frames")
		}
		switch err := l.nc.Publish(f.Channel, f.Data); {
		case err == nil:
		case errors.Is(err, natsgo.ErrMaxPayload):
			l.mu.Lock()
			r.set(i, &failure{class: transport.ErrTooLarge, text: "the frame is larger than the server's max_payload"})
			l.mu.Unlock()
		case errors.Is(err, natsgo.ErrConnectionClosed), errors.Is(err, natsgo.ErrBadSubject):
			return i, err
		default: // of the socket
			return i + 1, err
		}
	}
	return len(frames), nil
}

// flush waits until the server has answered for all that was sent, and until what it complained about has arrived.
func (l *link) flush(ctx context.Context) error {
	err := l.nc.FlushWithContext(ctx)
	if err == nil {
		err = l.settled(ctx)
	}
	if err == nil {
		return nil
	}
	select {
	case <-l.dead:
		return l.cause
	default:
	}
	if ctx.Err() != nil {
		return unavailable(ctx.Err(), "the server did not answer in time")
	}
	return err
}
