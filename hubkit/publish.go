package hubkit

import (
	"context"
	"errors"
	"fmt"

	"github.com/gobackplane/backplane"
)

// batchPublisher is the optional ability to publish several messages at once. [backplane.Node] has it.
type batchPublisher interface {
	PublishBatch(ctx context.Context, batch []backplane.Outgoing) error
}

// publish publishes all messages, in order, and returns nil or one error for each, nil for taken.
func (h *Hub) publish(ctx context.Context, batch []backplane.Outgoing) []error {
	if len(batch) > 1 && h.batcher != nil {
		return perMessage(h.batcher.PublishBatch(ctx, batch), len(batch))
	}
	var errs []error
	for i, m := range batch {
		var err error
		if i > 0 && ctx.Err() != nil {
			err = fmt.Errorf("%w: not tried: %w", backplane.ErrUnavailable, ctx.Err())
		} else {
			err = h.bp.Publish(ctx, m.To, m.Payload)
		}
		if err != nil {
			if errs == nil {
				errs = make([]error, len(batch))
			}
			errs[i] = err
		}
	}
	return errs
}

// perMessage takes the error of a batch apart. One that is not a *BatchError concerns every message.
func perMessage(err error, n int) []error {
	if err == nil {
		return nil
	}
	if each, ok := errors.AsType[*backplane.BatchError](err); ok && len(each.Errors) == n {
		return each.Errors
	}
	errs := make([]error, n)
	for i := range errs {
		errs[i] = err
	}
	return errs
}
