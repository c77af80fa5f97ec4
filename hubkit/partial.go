package hubkit

import (
	"errors"
	"fmt"

	"github.com/gobackplane/backplane"
)

// Coverage says how far an answer that is gathered from all instances can be relied on.
type Coverage struct {
	// Missing names the instances that were asked and did not answer.
	Missing []FailedNode
	// Settling is true while this instance may not know all others: for the backplane's member timeout after it was opened,
	// after an outage of its own, and after a pause of its process.
	Settling bool
}

// Partial reports whether an instance may be missing in the answer.
func (c Coverage) Partial() bool { return c.Settling || len(c.Missing) > 0 }

// err returns the coverage as an error; nil for a whole answer.
func (c Coverage) err() error {
	if !c.Partial() {
		return nil
	}
	return &PartialError{Coverage: c}
}

// FailedNode is an instance for which an operation or a query failed.
type FailedNode struct {
	Node  backplane.NodeID // "" for those that could not be asked at all
	Label string           // its Options.Label, where it was a member when it was asked
	// Connections are the ids concerned, where connections were named by id.
	Connections []string
	// Err is what a call for one connection would have returned: ErrNotFound, or ErrNodeLost, ErrTimeout, ErrUnavailable,
	// ErrUnsupported or another one of package backplane.
	Err error
}

// PartialError is the error of an operation that took effect on some of the instances concerned only, or may have, and of a
// query that has no answer without the missing ones. It is wrapped in an [*Error]; get it by errors.As. It matches [ErrPartial]
// and the errors of its instances.
type PartialError struct{ Coverage }

// Error tells how many failed and shows the first reason.
func (e *PartialError) Error() string {
	switch {
	case len(e.Missing) == 0:
		return "partial: this instance may not know all others yet"
	case e.Missing[0].Node == "":
		return fmt.Sprintf("partial: %d missing, the first: %v", len(e.Missing), e.Missing[0].Err)
	default:
		return fmt.Sprintf("partial: %d missing, the first is node %s: %v", len(e.Missing), e.Missing[0].Node, e.Missing[0].Err)
	}
}

// Unwrap returns ErrPartial and the reasons.
func (e *PartialError) Unwrap() []error {
	errs := []error{ErrPartial}
	for _, f := range e.Missing {
		errs = append(errs, f.Err)
	}
	return errs
}

// outcome turns the error of a question to a node into the one that the caller of a hub gets: each of what can happen is one
// sentinel and matches no other. nobody is true where the node answers, but has no such hub.
func outcome(node backplane.NodeID, err error) (nobody bool, _ error) {
	switch {
	case err == nil:
		return false, nil
	case errors.Is(err, backplane.ErrNodeLeft):
		return false, fmt.Errorf("%w: node %s has left", ErrNotFound, node)
	case errors.Is(err, backplane.ErrUnsupported):
		return true, nil
	}
	for _, alone := range []error{backplane.ErrNodeLost, backplane.ErrTimeout, backplane.ErrBusy} {
		if errors.Is(err, alone) {
			return false, fmt.Errorf("%w: node %s", alone, node)
		}
	}
	return false, err
}
