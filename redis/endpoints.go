package redis

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/gobackplane/backplane/transport"
)

// stragglers is how long the other endpoints may take to answer once a master was found. There may be two, when an old
// one has come back and nobody has told it yet.
const stragglers = 250 * time.Millisecond

// establish connects to the master: it makes the publishing connection, and then the subscribing one to the same
// endpoint. On error nothing is left behind.
func (b *bus) establish(ctx context.Context) (*link, error) {
	pub, err := b.findMaster(ctx)
	if err != nil {
		return nil, err
	}
	sub, err := b.openMaster(ctx, pub.addr, subscribing) // the name may stand for several servers: it is asked as well
	if err != nil {
		pub.close()
		return nil, err
	}
	if !pub.role.known {
		b.roleWarning.Do(func() {
			b.cfg.Logger.WarnContext(ctx, "redis: the server tells its role neither by ROLE nor by INFO; it is taken for the master",
				"remedy", "permit +role to the ACL user")
		})
	}
	return newLink(b, pub, sub), nil
}

// findMaster opens the publishing connection to the endpoint whose role is master.
func (b *bus) findMaster(ctx context.Context) (*session, error) {
	if len(b.set.addresses) == 1 {
		return b.openMaster(ctx, b.set.addresses[0], publishing)
	}
	answers := b.askAll(ctx)
	best, masters := -1, 0
	for i, a := range answers {
		if a.err == nil && a.session.role.master {
			masters++
			// An old master that has come back has no replicas; the new one has. Between equals the order decides, so
			// that all nodes decide alike.
			if best < 0 || a.session.role.replicas > answers[best].session.role.replicas {
				best = i
			}
		}
	}
	if masters > 1 {
		b.cfg.Logger.WarnContext(ctx, "redis: several endpoints say that they are the master; the one with the most replicas is used", "masters", masters)
	}
	for i, a := range answers {
		if i != best && a.session != nil {
			a.session.close()
		}
	}
	if best < 0 {
		return nil, noMaster(b.set.addresses, answers)
	}
	return answers[best].session, nil
}

// answer is what an endpoint said: a session if it let us in, else an error.
type answer struct {
	index   int
	session *session
	err     error
}

// askAll opens a session with every endpoint at the same time. Once a master was found the others get little time. It
// returns when all its goroutines have ended.
func (b *bus) askAll(ctx context.Context) []answer {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	came := make(chan answer)
	for i, addr := range b.set.addresses {
		go func() {
			s, err := b.open(ctx, addr, publishing)
			came <- answer{i, s, err}
		}()
	}
	answers := make([]answer, len(b.set.addresses))
	for range answers {
		a := <-came
		answers[a.index] = a
		if a.err == nil && a.session.role.master {
			timer := time.AfterFunc(stragglers, cancel)
			defer timer.Stop()
		}
	}
	return answers
}

// noMaster makes the error where no endpoint is a master that lets us in. Where one is a replica its master is somewhere;
// else what may be there later counts more than what is refused now.
func noMaster(addresses []string, answers []answer) error {
	texts := make([]string, len(answers))
	var classes []error
	for i, a := range answers {
		err := a.err
		if err == nil {
			err = a.session.role.err()
		}
		if err == nil {
			err = denied(nil, "the server tells its role neither by ROLE nor by INFO; permit +role to the ACL user")
		}
		texts[i] = addresses[i] + ": " + err.Error()
		classes = append(classes, err)
	}
	err := &failure{class: transport.ErrDenied, text: "no endpoint is a master that lets us in; " + strings.Join(texts, "; ")}
	for _, class := range []error{transport.ErrReadOnly, transport.ErrUnavailable} {
		if slices.ContainsFunc(classes, func(err error) bool { return errors.Is(err, class) }) {
			err.class = class
			break
		}
	}
	return err
}
