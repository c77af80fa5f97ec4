package mutant

import (
	"context"
	"strings"

	"github.com/gobackplane/backplane/conformance"
	"github.com/gobackplane/backplane/conformance/hubtest"
)

func names() []Mutant {
	return []Mutant{
		{
			Name: "hub-name-ignored", Breaks: "hub/names-apart",
			Defect: "what is sent to all in one hub reaches those of other names too",
			hub: func(h *hub) {
				h.send = func(ctx context.Context, to hubtest.Target, payload []byte) error {
					h.node.world.mu.Lock()
					hubs := h.node.world.hubs
					h.node.world.mu.Unlock()
					for _, other := range hubs {
						if other.node == h.node && other != h && to.All {
							_ = other.wholeHub.Send(ctx, to, payload)
						}
					}
					return h.wholeHub.Send(ctx, to, payload)
				}
			},
		},
		{
			Name: "namespace-ignored", Breaks: "hub/namespaces-apart",
			Defect:   "channels are made without all of the namespace",
			instance: func(in *conformance.Instance) { in.Namespace = strings.TrimSuffix(in.Namespace, "-x") },
		},
		{
			Name: "raw-heard", Breaks: "hub/raw-apart",
			Defect: "a hub's channels are those of the backplane's own addresses",
			node: func(n *node) {
				n.publish = func(ctx context.Context, kind, name string, payload []byte) error {
					n.world.mu.Lock()
					h := n.world.hubs[0]
					n.world.mu.Unlock()
					if kind == "group" {
						return h.wholeHub.Send(ctx, hubtest.Target{Groups: []string{name}}, payload)
					}
					return n.wholeNode.Publish(ctx, kind, name, payload)
				}
			},
		},
		{
			Name: "names-folded", Breaks: "hub/any-name",
			Defect: "the names of groups are compared without case",
			hub:    renaming(strings.ToLower),
		},
		{
			Name: "names-cut", Breaks: "hub/any-name",
			Defect: "the names of groups are cut at 100 bytes",
			hub:    renaming(func(name string) string { return name[:min(len(name), 100)] }),
		},
		{
			Name: "names-accepted", Breaks: "hub/any-name",
			Defect: "a name that is no UTF-8 is repaired and taken",
			hub:    renaming(func(name string) string { return strings.ToValidUTF8(name, "?") }),
		},
	}
}

// renaming takes groups by other names.
func renaming(rename func(string) string) func(*hub) {
	return func(h *hub) {
		h.joins = func(ctx context.Context, c *connection, group string) error {
			return c.Connection.Join(ctx, rename(group))
		}
		h.send = func(ctx context.Context, to hubtest.Target, payload []byte) error {
			renamed := to
			renamed.Groups = nil
			for _, g := range to.Groups {
				renamed.Groups = append(renamed.Groups, rename(g))
			}
			return h.wholeHub.Send(ctx, renamed, payload)
		}
		h.operate = func(ctx context.Context, op string, of hubtest.Target, with string) (int, error) {
			return h.healthy(ctx, op, of, rename(with))
		}
	}
}
