package embedded

import (
	"context"
	"errors"
	"time"

	natsgo "github.com/nats-io/nats.go"
)

// hereSubject, with a server's id, is where that server answers. No namespace can hold a '$'.
const hereSubject = "$BACKPLANE.HERE."

// askAgain is how often a server is asked that is not known yet.
const askAgain = 5 * time.Millisecond

// here is this process's own connection to its server. It answers others that ask whether they reach us.
type here struct {
	conn *natsgo.Conn
	id   string
}

func newHere(provider natsgo.InProcessConnProvider, id string) (*here, error) {
	conn, err := natsgo.Connect("", natsgo.InProcessServer(provider), natsgo.NoReconnect())
	if err != nil {
		return nil, err
	}
	h := &here{conn: conn, id: id}
	if _, err = conn.Subscribe(hereSubject+id, func(m *natsgo.Msg) { _ = m.Respond(nil) }); err == nil {
		err = conn.FlushTimeout(step)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return h, nil
}

// ask returns when the server has answered, or ctx's error. A server tells another one all of its subscriptions at once
// when a route between them begins: the answer, which follows them on that route, proves that ours has them.
func (h *here) ask(ctx context.Context, id string) error {
	for {
		_, err := h.conn.RequestWithContext(ctx, hereSubject+id, nil)
		if !errors.Is(err, natsgo.ErrNoResponders) {
			return err
		}
		pause(ctx, askAgain)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func (h *here) close() { h.conn.Close() }
