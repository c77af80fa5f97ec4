package backplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
)

// Who sends again on ErrUnavailable would deliver twice if an uncertain error matched it.
func TestUncertainIsNothingDefinite(t *testing.T) {
	cause := fmt.Errorf("%w: %w: %w", ErrUnavailable, context.DeadlineExceeded, &net.OpError{Op: "read", Err: errors.New("reset")})
	err := error(&Error{Op: "publish", Err: uncertain(cause)})
	if !errors.Is(err, ErrUncertain) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v matches too little", err)
	}
	for _, definite := range []error{ErrClosed, ErrTooLarge, ErrInvalidAddress, ErrUnavailable, ErrDenied, ErrUnsupported} {
		if errors.Is(uncertain(fmt.Errorf("%w: %w", ErrUncertain, definite)), definite) {
			t.Errorf("uncertain for a cause that wraps %q matches it", definite)
		}
	}
	if _, ok := errors.AsType[*net.OpError](err); !ok {
		t.Error("the cause cannot be found by errors.As")
	}
}
