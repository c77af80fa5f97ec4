package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"
)

const (
	defaultMemberTimeout = 8 * time.Second // of backplane.Options
	// killSlack is what the clock may show beyond the member timeout: nodes look at their members once a second, and the
	// list that was asked for before takes its time.
	killSlack = time.Second + whoTimeout
	// victim is the instance that dies. It has nurses of both wards, however many instances there are, up to a dozen.
	victim = 1
)

// mortals are instances that can be killed.
type mortals interface {
	urls() []string
	// kill ends an instance without a goodbye: its sockets die, its node falls silent.
	kill(i int) error
	close(ctx context.Context) error
}

// checkKill is the check with a death in it. The alert is raised while the others do not know of it yet.
func checkKill(ctx context.Context, c config, out io.Writer) (err error) {
	s, err := newSeats(c.backplane, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	timeout := cmp.Or(s.o.MemberTimeout, defaultMemberTimeout)
	ctx, cancel := context.WithTimeout(ctx, checkTimeout+timeout)
	defer cancel()
	// What is wrong with the URL, or with the broker, is told here and not by three processes.
	probe, err := s.node(ctx, "check")
	if err != nil {
		return err
	}
	if err = probe.Close(ctx); err != nil {
		return err
	}
	var m mortals
	if s.broker != nil || c.backplane == noBackplane {
		m, err = startThreads(ctx, s, c.instances)
	} else {
		m, err = startProcesses(ctx, c.backplane, c.instances)
	}
	if err != nil {
		return err
	}
	defer func() {
		closing, cancelClosing := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancelClosing()
		err = errors.Join(err, m.close(closing))
	}()
	k := &checkup{out: out, run: rand.Text()[:6]}
	defer k.close()
	if err = k.gather(ctx, m.urls()); err != nil {
		return err
	}
	first, err := k.who(ctx, m.urls()[0])
	if err != nil {
		return err
	}
	if n := first.count(k.members); n < len(k.members) {
		sayf(out, "instance %s has %d of %d nurses of ward 4B on its list\n", first.Instance, n, len(k.members))
		return errNotDelivered
	}
	died := time.Now()
	if err = m.kill(victim); err != nil {
		return err
	}
	dead, err := k.bury(ctx)
	if err != nil {
		return err
	}
	alert, err := k.raise(ctx)
	if err != nil {
		return err
	}
	others := slices.Delete(slices.Clone(m.urls()), victim, victim+1)
	if err = k.awaitOff(ctx, dead, others, died, timeout); err != nil {
		return err
	}
	return k.judge(alert)
}

// bury takes the nurses of the victim off the check once their sockets have died, and returns those of the ward.
func (k *checkup) bury(ctx context.Context) (dead []*client, err error) {
	died := k.members[victim] // one of them
	gone := func(c *client) bool { return c.node == died.node }
	var names []string
	for _, c := range slices.DeleteFunc(k.all(), func(c *client) bool { return !gone(c) }) {
		if _, e := c.await(ctx, "nothing"); ctx.Err() != nil || websocket.CloseStatus(e) != -1 {
			return nil, fmt.Errorf("%s on instance %s: the socket did not die: %w", c.name, c.instance, e)
		}
		names = append(names, c.name)
	}
	sayf(k.out, "instance %s dies, and with it the sockets of %s\n", died.instance, strings.Join(names, ", "))
	for _, c := range k.members {
		if gone(c) {
			dead = append(dead, c)
		}
	}
	k.members = slices.DeleteFunc(k.members, gone)
	k.others = slices.DeleteFunc(k.others, gone)
	return dead, nil
}

// awaitOff returns when each of the other instances has a list that is whole, with the nurses that are left and without those
// that died. Until then its list has to say that it is not whole.
func (k *checkup) awaitOff(ctx context.Context, dead []*client, urls []string, died time.Time, timeout time.Duration) error {
	for _, u := range urls {
		for told := ""; ; {
			r, err := k.who(ctx, u)
			if err != nil {
				return err
			}
			after := time.Since(died)
			if r.count(k.members) < len(k.members) || r.count(dead) > 0 && r.whole() {
				sayf(k.out, "instance %s has a wrong list after %.1f s: %s\n", r.Instance, after.Seconds(), r)
				return errNotDelivered
			}
			if text := r.String(); text != told {
				told = text
				sayf(k.out, "instance %s has on its list after %.1f s: %s\n", r.Instance, after.Seconds(), r)
			}
			if after > timeout+killSlack {
				sayf(k.out, "that is beyond the member timeout of %v\n", timeout)
				return errNotDelivered
			}
			if r.whole() {
				break
			}
			const pause = 100 * time.Millisecond
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(pause):
			}
		}
	}
	return nil
}

// who asks an instance for its list of the ward.
func (k *checkup) who(ctx context.Context, base string) (roll, error) {
	var r roll
	u, err := url.Parse(base)
	if err != nil {
		return r, err
	}
	u = u.JoinPath("who")
	u.RawQuery = url.Values{"ward": {"4B-" + k.run}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return r, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return r, fmt.Errorf("%s: %w", u.Redacted(), cause(err))
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	if resp.StatusCode != http.StatusOK {
		return r, fmt.Errorf("%s: %s", u.Redacted(), resp.Status)
	}
	return r, json.NewDecoder(resp.Body).Decode(&r)
}

// whole reports whether no instance can be missing.
func (r roll) whole() bool { return len(r.Missing) == 0 && !r.Settling && !r.More }

// count counts the clients that are on the list, by their names.
func (r roll) count(clients []*client) (n int) {
	for _, c := range clients {
		if slices.ContainsFunc(r.Nurses, func(l listed) bool { return l.Name == c.name }) {
			n++
		}
	}
	return n
}

// String reads "6 nurses; no answer from instance B".
func (r roll) String() string {
	parts := []string{fmt.Sprintf("%d nurses", len(r.Nurses))}
	for _, name := range r.Missing {
		parts = append(parts, "no answer from instance "+name)
	}
	if r.Settling {
		parts = append(parts, "it has just come, and may not know all instances")
	}
	return strings.Join(parts, "; ")
}
