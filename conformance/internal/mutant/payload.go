package mutant

import (
	"bytes"
	"context"
	"errors"
	"sync"

	"github.com/gobackplane/backplane"
)

func payload() []Mutant {
	return []Mutant{
		{
			Name: "cut-at-nul", Defect: "payloads end at their first NUL.", Breaks: "payload/intact",
			Also:  []string{"deliver/once", "order/per-publisher"},
			world: respelled(func(p []byte) []byte { p, _, _ = bytes.Cut(p, []byte{0}); return p }),
		},
		{
			Name: "truncate-4k", Defect: "payloads are cut at 4 KiB.", Breaks: "payload/intact",
			world: respelled(func(p []byte) []byte { return p[:min(len(p), 4<<10)] }),
		},
		{
			Name: "chunk-border", Defect: "a chunk of one byte gets lost, behind those of 64 KiB.", Breaks: "payload/intact",
			world: respelled(func(p []byte) []byte {
				if len(p) > 1 && len(p)%(64<<10) == 1 {
					return p[:len(p)-1]
				}
				return p
			}),
		},
		{
			Name: "only-text", Defect: "bytes that are no UTF-8 are replaced.", Breaks: "payload/intact",
			Also:  []string{"deliver/once", "order/per-publisher"},
			world: respelled(func(p []byte) []byte { return bytes.ToValidUTF8(p, []byte("\ufffd")) }),
		},
		{
			Name: "drop-empty", Defect: "an empty payload is nothing to send.", Breaks: "payload/empty",
			world: each(func(n *Node) {
				n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
					if len(payload) == 0 {
						return nil
					}
					return n.Node.Publish(ctx, to, payload)
				}
			}),
		},
		{
			Name: "nil-for-empty", Defect: "an empty payload arrives as nil.", Breaks: "payload/empty",
			world: respelled(func(p []byte) []byte {
				if len(p) == 0 {
					return nil
				}
				return p
			}),
		},
		{
			Name: "alias-publisher", Defect: "receivers of the process get the publisher's own slice.", Breaks: "payload/reuse",
			world: func(*World) func(*Node) {
				var mu sync.Mutex
				own := map[string][]byte{}
				return func(n *Node) {
					n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
						mu.Lock()
						own[string(payload)] = payload
						mu.Unlock()
						return n.Node.Publish(ctx, to, payload)
					}
					n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
						if m, ok := message(e); ok {
							mu.Lock()
							p := own[string(m.Payload)]
							mu.Unlock()
							e = &backplane.Message{Address: m.Address, Publisher: m.Publisher, Payload: asItIsNow(p)}
						}
						s.handler(ctx, e)
					}
				}
			},
		},
		{
			Name: "read-buffer", Defect: "a payload is a part of the read buffer, which is used again.", Breaks: "payload/kept",
			world: each(func(n *Node) {
				var mu sync.Mutex
				buffers := map[*Sub][]byte{}
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					if m, ok := message(e); ok {
						mu.Lock()
						buffers[s] = append(buffers[s][:0], m.Payload...)
						e = &backplane.Message{Address: m.Address, Publisher: m.Publisher, Payload: buffers[s]}
						mu.Unlock()
					}
					s.handler(ctx, e)
				}
			}),
		},
	}
}

// limits are mutants that err at the largest payload.
func limits() []Mutant {
	return []Mutant{
		{
			Name: "oversize-nil", Defect: "a payload that is too large is reported as done.", Breaks: "limits/payload",
			world: each(func(n *Node) {
				n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
					err := n.Node.Publish(ctx, to, payload)
					if errors.Is(err, backplane.ErrTooLarge) {
						return nil
					}
					return err
				}
			}),
		},
		{
			Name: "envelope-counts", Defect: "the largest payload is smaller by the size of the envelope.", Breaks: "limits/payload",
			world: each(func(n *Node) {
				n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
					if len(payload)+len(to.Name()) > n.MaxPayload() {
						return refused("publish", to, backplane.ErrTooLarge)
					}
					return n.Node.Publish(ctx, to, payload)
				}
			}),
		},
	}
}

// asItIsNow copies what another goroutine may be writing. The race detector is kept out of it: that it flags a slice which
// is shared with the publisher is well, but here the suite's own rules have to see it.
//
//go:norace
func asItIsNow(p []byte) []byte {
	now := make([]byte, len(p))
	for i := range p { //nolint:staticcheck // not copy, which is watched as a call of the runtime
		now[i] = p[i]
	}
	return now
}

// respelled delivers payloads as something else.
func respelled(as func([]byte) []byte) func(*World) func(*Node) {
	return each(func(n *Node) {
		n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
			if m, ok := message(e); ok {
				e = &backplane.Message{Address: m.Address, Publisher: m.Publisher, Payload: as(m.Payload)}
			}
			s.handler(ctx, e)
		}
	})
}
