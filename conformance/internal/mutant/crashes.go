package mutant

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/gobackplane/backplane"
)

// Crash is a mutant that takes the process with it, or never comes back. It is no part of [All]: what is asked of the suite
// is that a run in a process of its own ends red, with words that say what happened.
type Crash struct {
	Mutant
	Verb  string   // under way when it happens
	Words []string // one of them is what is said
}

// Crashes returns them.
func Crashes() []Crash {
	return []Crash{
		{
			Mutant: Mutant{
				Name: "goroutine-panics", Defect: "a goroutine of the driver panics.", Breaks: "deliver/self",
				world: each(func(n *Node) {
					n.publish = func(ctx context.Context, _ backplane.Address, _ []byte) error {
						go panicInDriver()
						<-ctx.Done()
						return ctx.Err() //nolint:wrapcheck // nobody hears of it
					}
				}),
			},
			Verb: "Publish of n1", Words: []string{"panic: " + driverPanic},
		},
		{
			Mutant: Mutant{
				Name: "map-without-a-lock", Defect: "Subscribe writes to a map that all calls share, without a lock.", Breaks: "race/everything",
				world: each(func(n *Node) {
					shared := map[int]int{}
					meet := make(chan struct{})
					n.subscribe = func(ctx context.Context, to backplane.Address, h backplane.Handler) (*Sub, error) {
						if met(meet) {
							for begin, i := time.Now(), 0; time.Since(begin) < 10*time.Second; i++ {
								shared[i%1000] = i // until the runtime sees it
							}
						}
						return n.subscribeHealthy(ctx, to, h)
					}
				}),
			},
			Verb: "Subscribe of n", Words: []string{"fatal error: concurrent map writes", "WARNING: DATA RACE"},
		},
		{
			Mutant: Mutant{
				Name: "driver-exits", Defect: "the driver ends the process for an error that it did not expect.", Breaks: "deliver/self",
				Seen: "log.Fatal in a library",
				world: each(func(n *Node) {
					var once sync.Once
					n.publish = func(context.Context, backplane.Address, []byte) error {
						once.Do(func() { os.Exit(3) })
						return nil
					}
				}),
			},
			Verb: "Publish of n1", Words: []string{"exit status 3"},
		},
		{
			Mutant: Mutant{
				Name: "deadlock", Defect: "Publish never returns, whatever becomes of its context.", Breaks: "deliver/self",
				world: each(func(n *Node) {
					n.publish = func(context.Context, backplane.Address, []byte) error { select {} }
				}),
			},
			Verb: "Publish of n1", Words: []string{"a call has not returned"},
		},
	}
}

const driverPanic = "the driver read what it cannot understand"

// panicInDriver is named in the stack.
func panicInDriver() { panic(driverPanic) }

// met reports whether another call came to the same place within a moment.
func met(meet chan struct{}) bool {
	select {
	case meet <- struct{}{}:
		return true
	case <-meet:
		return true
	case <-time.After(100 * time.Millisecond):
		return false
	}
}
