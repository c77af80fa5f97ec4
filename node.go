package backplane

import (
	"context"

	"github.com/gobackplane/backplane/transport"
)

// Node is this process's seat on a backplane.
type Node struct{}

var (
	_ Backplane      = (*Node)(nil)
	_ Cluster        = (*Node)(nil)
	_ HealthReporter = (*Node)(nil)
)

// Open opens a node over a transport.
func Open(ctx context.Context, open transport.Opener, o Options) (*Node, error) { panic("soon") }

func (n *Node) Publish(ctx context.Context, to Address, payload []byte) error { panic("soon") }
func (n *Node) PublishBatch(ctx context.Context, batch []Outgoing) error      { panic("soon") }
func (n *Node) Subscribe(ctx context.Context, to Address, h Handler) (Subscription, error) {
	panic("soon")
}
func (n *Node) Close(ctx context.Context) error { panic("soon") }
func (n *Node) ID() NodeID                      { panic("soon") }
func (n *Node) Members() []Member               { panic("soon") }
func (n *Node) Ask(ctx context.Context, node NodeID, service string, request []byte) ([]byte, error) {
	panic("soon")
}
func (n *Node) AskAll(ctx context.Context, service string, request []byte) ([]Answer, error) {
	panic("soon")
}
func (n *Node) Answer(service string, f AnswerFunc) (stop func()) { panic("soon") }
func (n *Node) Health() Health                                    { panic("soon") }
func (n *Node) OnHealth(f func(Health)) (stop func())             { panic("soon") }
func (n *Node) Stats() Stats                                      { panic("soon") }
