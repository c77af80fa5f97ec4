package mutant

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/gobackplane/backplane"
)

// wire is a way to publish: over a connection of its own, whose other end publishes in the healthy way. So the suite can
// slow it down and tear it, which nobody can do to the in-memory transport.
type wire struct {
	n    *Node
	dial func(ctx context.Context) (net.Conn, error)

	// What a mutant breaks. read reads one frame, from a reader that outlives connections; answer is how long to wait for
	// an answer.
	read   func(w *wire, from io.Reader) ([]byte, error)
	answer time.Duration

	mu   sync.Mutex // held for a whole publish
	conn net.Conn   // guarded by mu

	tableMu   sync.Mutex
	addresses []backplane.Address // guarded by tableMu; a frame tells the place

	readMu sync.Mutex // one connection is served at a time
	left   []byte     // guarded by readMu: what a connection that broke had brought
}

const (
	frameHead = 8 // length of the payload, place of the address
	patience  = 5 * time.Second
)

// wired makes the world function of a defect on the wire.
func wired(breakIt func(*wire)) func(*World) func(*Node) {
	return each(func(n *Node) {
		w := &wire{n: n, dial: n.dial, read: readFrame, answer: patience}
		breakIt(w)
		n.serve, n.publish = w.serve, w.publish
		healthy := n.close
		n.close = func(ctx context.Context) error {
			w.mu.Lock()
			w.giveUp()
			w.mu.Unlock()
			return healthy(ctx)
		}
	})
}

// Wired is no mutant: what mutants on the wire are when nothing is broken.
func Wired(name string) Mutant { return Mutant{Name: name, Wire: true, world: wired(func(*wire) {})} }

func (w *wire) publish(ctx context.Context, to backplane.Address, payload []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn == nil {
		conn, err := w.dial(ctx)
		if err != nil {
			return refused("publish", to, errors.Join(backplane.ErrUnavailable, err))
		}
		w.conn = conn
	}
	frame := binary.BigEndian.AppendUint32(nil, uint32(len(payload))) //nolint:gosec // small
	frame = append(binary.BigEndian.AppendUint32(frame, w.place(to)), payload...)
	answer := make([]byte, 1)
	err := w.conn.SetDeadline(time.Now().Add(patience))
	if err == nil {
		_, err = w.conn.Write(frame)
	}
	if err == nil {
		err = w.conn.SetReadDeadline(time.Now().Add(w.answer))
	}
	if err == nil {
		_, err = io.ReadFull(w.conn, answer)
	}
	if err != nil || answer[0] != 0 {
		w.giveUp()
		return refused("publish", to, errors.Join(backplane.ErrUncertain, err))
	}
	return nil
}

// place returns the number by which a frame tells its address.
func (w *wire) place(to backplane.Address) uint32 {
	w.tableMu.Lock()
	defer w.tableMu.Unlock()
	for i, a := range w.addresses {
		if a == to {
			return uint32(i)
		}
	}
	w.addresses = append(w.addresses, to)
	return uint32(len(w.addresses) - 1) //nolint:gosec // small
}

// address is where a frame goes; one whose head was damaged goes anywhere.
func (w *wire) address(frame []byte) backplane.Address {
	w.tableMu.Lock()
	defer w.tableMu.Unlock()
	return w.addresses[int(binary.BigEndian.Uint32(frame[4:]))%len(w.addresses)]
}

func (w *wire) giveUp() {
	if w.conn != nil {
		_ = w.conn.Close()
		w.conn = nil
	}
}

// serve is the other end of one connection.
func (w *wire) serve(conn net.Conn) {
	w.readMu.Lock()
	defer w.readMu.Unlock()
	defer func() { _ = conn.Close() }()
	for {
		frame, err := w.read(w, conn)
		if err != nil {
			return
		}
		status := byte(0)
		if w.n.Node.Publish(context.Background(), w.address(frame), frame[frameHead:]) != nil {
			status = 1
		}
		if _, err = conn.Write([]byte{status}); err != nil {
			return
		}
	}
}

func readFrame(_ *wire, from io.Reader) ([]byte, error) {
	head := make([]byte, frameHead)
	if _, err := io.ReadFull(from, head); err != nil {
		return nil, err //nolint:wrapcheck // it ends the connection
	}
	payload := make([]byte, binary.BigEndian.Uint32(head))
	_, err := io.ReadFull(from, payload)
	return slices.Concat(head, payload), err //nolint:wrapcheck // it ends the connection
}

// impaired are mutants that do not bear a link that works in part.
func impaired() []Mutant {
	return []Mutant{
		{
			Name: "deaf-and-well", Defect: "health is up as long as what the instance sends is taken.", Breaks: "link/one-way",
			world: each(func(n *Node) {
				n.onHealth = func(f func(backplane.Health)) (stop func()) {
					f(backplane.Health{State: backplane.Up})
					return func() {}
				}
			}),
		},
		{
			Name: "kernel-has-it", Defect: "what was written to the socket counts as published.", Breaks: "link/one-way",
			world: each(func(n *Node) {
				var mu sync.Mutex
				mute := false
				n.faults = func(f Faults) Faults {
					set := func(to bool, f func()) func() {
						return func() {
							mu.Lock()
							mute = to
							mu.Unlock()
							f()
						}
					}
					f.Mute, f.Heal = set(true, f.Mute), set(false, f.Heal)
					return f
				}
				n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
					mu.Lock()
					written := mute
					mu.Unlock()
					if written {
						return nil
					}
					return n.Node.Publish(ctx, to, payload)
				}
			}),
		},
		{
			Name: "impatient", Defect: "an answer that takes 20 ms is taken for lost.", Breaks: "link/slow", Wire: true,
			world: wired(func(w *wire) { w.answer = 20 * time.Millisecond }),
		},
		{
			Name: "one-read-one-frame", Defect: "what one read brings is taken for a whole payload.", Breaks: "link/slow", Wire: true,
			world: wired(func(w *wire) {
				w.read = func(_ *wire, from io.Reader) ([]byte, error) {
					frame := make([]byte, frameHead)
					if _, err := io.ReadFull(from, frame); err != nil {
						return nil, err //nolint:wrapcheck // it ends the connection
					}
					size := int(binary.BigEndian.Uint32(frame))
					payload := make([]byte, size)
					n, err := from.Read(payload)
					if err == nil && n < size {
						_, _ = io.ReadFull(from, payload[n:]) // the rest is skipped
					}
					return slices.Concat(frame, payload[:n]), err //nolint:wrapcheck // it ends the connection
				}
			}),
		},
		{
			Name: "half-a-message", Defect: "what came before a connection broke is taken for the whole message.", Breaks: "link/torn", Wire: true,
			world: wired(func(w *wire) {
				w.read = func(w *wire, from io.Reader) ([]byte, error) {
					head := make([]byte, frameHead)
					if _, err := io.ReadFull(from, head); err != nil {
						return nil, err //nolint:wrapcheck // it ends the connection
					}
					payload := make([]byte, binary.BigEndian.Uint32(head))
					n, err := io.ReadFull(from, payload)
					if n > 0 && !errors.Is(err, os.ErrDeadlineExceeded) {
						err = nil
					}
					return slices.Concat(head, payload[:n]), err //nolint:wrapcheck // it ends the connection
				}
			}),
		},
		{
			Name: "glues-connections", Defect: "the rest of a torn message is expected on the next connection.", Breaks: "link/torn", Wire: true,
			world: wired(func(w *wire) {
				w.read = func(w *wire, from io.Reader) ([]byte, error) {
					for {
						if len(w.left) >= frameHead {
							if size := frameHead + int(binary.BigEndian.Uint32(w.left)); len(w.left) >= size {
								frame := w.left[:size:size]
								w.left = w.left[size:]
								return frame, nil
							}
						}
						b := make([]byte, 1<<10)
						n, err := from.Read(b)
						w.left = append(w.left, b[:n]...)
						if err != nil {
							return nil, err //nolint:wrapcheck // it ends the connection
						}
					}
				}
			}),
		},
	}
}
