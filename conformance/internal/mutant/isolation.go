package mutant

import (
	"context"
	"hash/fnv"
	"path"
	"strings"

	"github.com/gobackplane/backplane"
)

func isolation() []Mutant {
	return []Mutant{
		{
			Name: "short-hash", Defect: "channels are named by four bits of a hash.", Breaks: "isolate/address",
			world: renamed(func(a backplane.Address) backplane.Address {
				h := fnv.New32a()
				_, _ = h.Write([]byte(a.Name())) // never fails
				return backplane.Group(string(rune('a' + h.Sum32()%16)))
			}),
		},
		{
			Name: "prefix-match", Defect: `who subscribed to "a" hears "a.b".`, Breaks: "isolate/confusable",
			world: each(func(n *Node) {
				n.publish = n.publishAlso(func(subscribed, published backplane.Address) bool {
					return strings.HasPrefix(published.Name(), subscribed.Name()+".")
				})
			}),
		},
		{
			Name: "fold-case", Defect: "names are lower-cased.", Breaks: "isolate/confusable",
			world: renamed(func(a backplane.Address) backplane.Address { return renameTo(a, strings.ToLower(a.Name())) }),
		},
		{
			Name: "truncate-name", Defect: "names are cut at 64 bytes.", Breaks: "isolate/confusable",
			world: renamed(func(a backplane.Address) backplane.Address { return renameTo(a, a.Name()[:min(64, len(a.Name()))]) }),
		},
		{
			Name: "sanitise-name", Defect: "special characters of names become underscores.", Breaks: "isolate/confusable",
			Seen: "usual for NATS subjects",
			world: renamed(func(a backplane.Address) backplane.Address {
				return renameTo(a, strings.Map(func(r rune) rune {
					if strings.ContainsRune(" .*>/:\t\r\n", r) {
						return '_'
					}
					return r
				}, a.Name()))
			}),
		},
		{
			Name: "glob-subscribe", Defect: "subscriptions are patterns.", Breaks: "isolate/wildcards",
			Seen: "PSUBSCRIBE, wildcards in NATS subjects",
			world: each(func(n *Node) {
				n.publish = n.publishAlso(func(subscribed, published backplane.Address) bool {
					ok, err := path.Match(subscribed.Name(), published.Name())
					return ok && err == nil
				})
			}),
		},
		{
			Name: "namespace-prefix", Defect: "the namespace stands before the rest without a delimiter that it cannot hold.", Breaks: "isolate/namespace",
			open: func(open Opener) Opener {
				return func(ctx context.Context, in Instance) (*backplane.Node, error) {
					in.Namespace = strings.TrimSuffix(strings.TrimSuffix(in.Namespace, "2"), "-")
					return open(ctx, in)
				}
			},
		},
		{
			Name: "kind-lost", Defect: "the kind is not part of a channel's name.", Breaks: "isolate/kinds",
			world: renamed(func(a backplane.Address) backplane.Address {
				if a.Kind() == backplane.KindAll {
					return a
				}
				return inScope(backplane.Group(a.Name()), a.Scope())
			}),
		},
		{
			Name: "scope-in-name", Defect: "the scope is written before the name, with a colon between.", Breaks: "isolate/scopes",
			world: renamed(func(a backplane.Address) backplane.Address {
				if a.Scope() == "" {
					return a
				}
				return withKind(a.Kind(), a.Scope()+":"+a.Name())
			}),
		},
	}
}

// naming are mutants that cannot carry every name.
func naming() []Mutant {
	return []Mutant{
		{
			Name: "no-nul", Defect: "a name that holds a NUL is refused.", Breaks: "names/any",
			world: each(func(n *Node) {
				n.subscribe = func(ctx context.Context, to backplane.Address, h backplane.Handler) (*Sub, error) {
					if strings.ContainsRune(to.Name(), 0) {
						return nil, refused("subscribe", to, backplane.ErrInvalidAddress)
					}
					return n.subscribeHealthy(ctx, to, h)
				}
			}),
		},
		{
			Name: "publish-anywhere", Defect: "Publish to an invalid address is reported as done.", Breaks: "names/any",
			world: each(func(n *Node) {
				n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
					if to.Validate() == nil {
						return n.Node.Publish(ctx, to, payload)
					}
					return nil
				}
			}),
		},
		{
			Name: "line-injection", Defect: "names are written raw into a text protocol: a line break swallows the next command.", Breaks: "names/inert",
			world: each(func(n *Node) {
				swallow := make(chan struct{}, 1)
				n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
					select {
					case <-swallow:
						return nil
					default:
					}
					if strings.Contains(to.Name(), "\r\n") {
						swallow <- struct{}{}
					}
					return n.Node.Publish(ctx, to, payload)
				}
			}),
		},
		{
			Name: "short-channels", Defect: "names longer than 1,000 bytes do not fit into the broker's channels, and are deaf.", Breaks: "limits/address",
			world: each(func(n *Node) {
				n.subscribe = func(ctx context.Context, to backplane.Address, h backplane.Handler) (*Sub, error) {
					s, err := n.subscribeHealthy(ctx, to, h)
					if err == nil && len(to.Name()) > 1000 {
						s.deaf.Store(true)
					}
					return s, err
				}
			}),
		},
		{
			Name: "one-byte-more", Defect: "a name of 1,025 bytes is taken.", Breaks: "limits/address",
			world: each(func(n *Node) {
				n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
					if len(to.Name()) == backplane.MaxName+1 {
						return nil
					}
					return n.Node.Publish(ctx, to, payload)
				}
			}),
		},
	}
}

// renamed uses another address in place of each valid one, and none on arrival.
func renamed(name func(backplane.Address) backplane.Address) func(*World) func(*Node) {
	used := func(a backplane.Address) backplane.Address {
		if a.Validate() != nil {
			return a
		}
		return name(a)
	}
	return each(func(n *Node) { n.usesFor(used) })
}

// usesFor makes the instance use another address in place of each, and report what it hears there as heard on the one that was
// subscribed to.
func (n *Node) usesFor(used func(backplane.Address) backplane.Address) {
	n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
		return n.Node.Publish(ctx, used(to), payload)
	}
	n.subscribe = func(ctx context.Context, to backplane.Address, h backplane.Handler) (*Sub, error) {
		return n.subscribeAs(ctx, used(to), to, h)
	}
	n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
		switch e := e.(type) {
		case *backplane.Message:
			s.handler(ctx, &backplane.Message{Address: s.to, Publisher: e.Publisher, Payload: e.Payload})
		case *backplane.Gap:
			g := *e
			g.Address = s.to
			s.handler(ctx, &g)
		}
	}
}

func renameTo(a backplane.Address, name string) backplane.Address {
	return inScope(withKind(a.Kind(), name), a.Scope())
}

func inScope(a backplane.Address, scope string) backplane.Address {
	if scope == "" {
		return a
	}
	return a.In(scope)
}
