package mutant

import (
	"bytes"
	"context"
	"errors"
	"net/url"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/gobackplane/backplane"
)

// fieldNames are defects of names and payloads that were seen in the field.
func fieldNames() []Mutant {
	return []Mutant{
		{
			Name: "normalised", Defect: "names are normalised: an e with a combining accent becomes é.", Breaks: "isolate/confusable",
			Seen: "file systems and identity providers that apply NFC",
			world: renamed(func(a backplane.Address) backplane.Address {
				return renameTo(a, strings.NewReplacer("e\u0301", "é", "A\u030a", "Å").Replace(a.Name()))
			}),
		},
		{
			Name: "trimmed", Defect: "white space around names is cut off.", Breaks: "isolate/confusable",
			Seen: "values of HTTP headers: RFC 9110, 5.5",
			world: renamed(func(a backplane.Address) backplane.Address {
				if name := strings.Trim(a.Name(), " \t\r\n"); name != "" {
					return renameTo(a, name)
				}
				return a
			}),
		},
		{
			Name: "percent-decoded", Defect: "names are decoded like the query of a URL.", Breaks: "isolate/confusable",
			Seen: "topics in the query of Mercure's hub URL, decoded once too often",
			world: renamed(func(a backplane.Address) backplane.Address {
				if name, err := url.QueryUnescape(a.Name()); err == nil && name != "" {
					return renameTo(a, name)
				}
				return a
			}),
		},
		{
			Name: "path-cleaned", Defect: "names are cleaned like paths.", Breaks: "isolate/confusable",
			Seen:  "net/http.ServeMux redirects to the cleaned path",
			world: renamed(func(a backplane.Address) backplane.Address { return renameTo(a, path.Clean(a.Name())) }),
		},
		{
			Name: "three-bytes", Defect: "characters beyond the basic plane are replaced.", Breaks: "names/any",
			Seen: "MySQL's utf8, which is utf8mb3",
			world: renamed(func(a backplane.Address) backplane.Address {
				return renameTo(a, strings.Map(func(r rune) rune {
					if r > 0xffff {
						return '?'
					}
					return r
				}, a.Name()))
			}),
		},
		{
			Name: "quote-breaks-envelope", Defect: "a name with a quote or a backslash breaks the envelope: nothing is sent.", Breaks: "names/any",
			Seen: "JSON made by joining strings",
			world: each(func(n *Node) {
				n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
					if strings.ContainsAny(to.Name(), `"\`) {
						return nil
					}
					return n.Node.Publish(ctx, to, payload)
				}
			}),
		},
		{
			Name: "glob-publish", Defect: "a publish to a name with wildcards reaches all that it matches.", Breaks: "isolate/wildcards",
			Seen: "nats.go takes a wildcard as the subject of a publish; see NATS's notes on pedantic mode",
			world: each(func(n *Node) {
				n.publish = n.publishAlso(func(subscribed, published backplane.Address) bool {
					ok, err := path.Match(published.Name(), subscribed.Name())
					return ok && err == nil && renameTo(published, "x") == renameTo(subscribed, "x")
				})
			}),
		},
		{
			Name: "no-scope-hears-all", Defect: "an address without a scope hears that of every scope.", Breaks: "isolate/scopes",
			Seen: "socket.io-redis-adapter's pattern socket.io#/#* also matches other namespaces' channels",
			world: each(func(n *Node) {
				n.publish = n.publishAlso(func(subscribed, published backplane.Address) bool {
					return subscribed.Scope() == "" && subscribed == without(published)
				})
			}),
		},
		{
			Name: "closed-by-a-bad-name", Defect: "after a name that the broker does not like the next publish is lost.", Breaks: "limits/address",
			Seen:  "NATS: Invalid Subject",
			world: each(func(n *Node) { n.publish = n.swallowingAfter(backplane.ErrInvalidAddress) }),
		},
		{
			Name: "closed-by-a-large-payload", Defect: "after a payload that is too large the next publish is lost.", Breaks: "limits/payload",
			Seen:  "NATS: Maximum Payload Violation closes the connection",
			world: each(func(n *Node) { n.publish = n.swallowingAfter(backplane.ErrTooLarge) }),
		},
	}
}

// fieldPayloads are defects of payloads that were seen in the field.
func fieldPayloads() []Mutant {
	return []Mutant{
		{
			Name: "line-ends-trimmed", Defect: "line ends at the end of a text are cut off.", Breaks: "payload/intact",
			Also:  []string{"deliver/once", "order/per-publisher"}, // where a header happens to be a text that ends so
			Seen:  "text protocols; server-sent events end a message with an empty line",
			world: texts(func(p []byte) []byte { return bytes.TrimRight(p, "\r\n") }),
		},
		{
			Name: "padding-lost", Defect: "texts that end in equals signs lose them.", Breaks: "payload/intact",
			Also:  []string{"deliver/once", "order/per-publisher"}, // where a header happens to be a text that ends so
			Seen:  "base64 with and without padding at the two ends",
			world: texts(func(p []byte) []byte { return bytes.TrimRight(p, "=") }),
		},
		{
			Name: "gzip-sniffed", Defect: "a payload that begins like gzip is taken for one, and dropped.", Breaks: "payload/intact",
			Seen: "middleware that looks at the first bytes",
			world: each(func(n *Node) {
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					if m, ok := message(e); ok && bytes.HasPrefix(m.Payload, []byte{0x1f, 0x8b}) {
						return
					}
					s.handler(ctx, e)
				}
			}),
		},
		{
			Name: "same-content-is-a-repeat", Defect: "a payload that was seen on another address is taken for a repeat.", Breaks: "payload/empty",
			Seen: "JetStream's Nats-Msg-Id and Service Bus's duplicate detection with a hash of the content as the id",
			world: each(func(n *Node) {
				var mu sync.Mutex
				seen := map[string]backplane.Address{}
				n.deliver = func(ctx context.Context, s *Sub, e backplane.Event) {
					if m, ok := message(e); ok {
						mu.Lock()
						first, again := seen[string(m.Payload)]
						if !again {
							seen[string(m.Payload)] = m.Address
						}
						mu.Unlock()
						if again && first != m.Address {
							return
						}
					}
					s.handler(ctx, e)
				}
			}),
		},
		{
			Name: "buffered-by-reference", Defect: "messages wait for the next batch as the caller's slices.", Breaks: "payload/reuse",
			Seen: "librdkafka without MSG_F_COPY: the payload must stay until the delivery report",
			world: each(func(n *Node) {
				var mu sync.Mutex
				sending := false
				type waiting struct {
					to      backplane.Address
					payload []byte
				}
				var queue []waiting
				n.publish = func(ctx context.Context, to backplane.Address, payload []byte) error {
					mu.Lock()
					defer mu.Unlock()
					queue = append(queue, waiting{to, payload})
					if sending {
						return nil
					}
					sending = true
					go func() {
						for {
							pause(time.Millisecond)
							mu.Lock()
							batch := queue
							queue, sending = nil, len(batch) > 0
							mu.Unlock()
							if len(batch) == 0 {
								return
							}
							for _, next := range batch {
								_ = n.Node.Publish(context.WithoutCancel(ctx), next.to, asItIsNow(next.payload)) // nobody is told
							}
						}
					}()
					return nil
				}
			}),
		},
	}
}

// texts delivers payloads that are text as something else.
func texts(as func([]byte) []byte) func(*World) func(*Node) {
	return respelled(func(p []byte) []byte {
		if utf8.Valid(p) {
			return as(p)
		}
		return p
	})
}

// swallowingAfter reports the publish after one with an error as done, and does not send it.
func (n *Node) swallowingAfter(bad error) func(context.Context, backplane.Address, []byte) error {
	var closed atomic.Bool
	return func(ctx context.Context, to backplane.Address, payload []byte) error {
		fits := len(payload) <= n.MaxPayload() && to.Validate() == nil
		if fits && closed.Swap(false) {
			return nil
		}
		err := n.Node.Publish(ctx, to, payload)
		if errors.Is(err, bad) {
			closed.Store(true)
		}
		return err
	}
}
