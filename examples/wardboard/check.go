package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gobackplane/backplane"
)

const (
	checkMembers = 9
	checkOthers  = 3
	checkTimeout = 30 * time.Second
)

// errNotDelivered is the failure of a check that could be carried out; its last line of output says how many got it.
var errNotDelivered = errors.New("not delivered as promised")

// check raises one alert and counts who gets it, on instances that run already or on a farm of its own. It waits for
// events only, never for time: see protocol.go on fences.
func check(ctx context.Context, c config, out io.Writer) error {
	if c.kill {
		return checkKill(ctx, c, out)
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	if len(c.connect) > 0 {
		return checkAt(ctx, c.connect, out)
	}
	c.listen = "127.0.0.1:0"
	f, err := startFarm(ctx, c, io.Discard)
	if err != nil {
		return err
	}
	err = checkAt(ctx, []string{f.url}, out)
	closing, cancelClosing := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancelClosing()
	return errors.Join(err, f.close(closing))
}

// checkAt checks what is at the URLs.
func checkAt(ctx context.Context, urls []string, out io.Writer) error {
	k := &checkup{out: out, run: rand.Text()[:6]}
	defer k.close()
	if err := k.gather(ctx, urls); err != nil {
		return err
	}
	alert, err := k.raise(ctx)
	if err != nil {
		return err
	}
	return k.judge(alert)
}

// checkup is one run of the check. The wards carry its name, so that it meets nobody who uses the same instances.
type checkup struct {
	out     io.Writer
	run     string
	members []*client // the nurses of the ward
	others  []*client // those of another ward
}

// gather connects the nurses, dealt round-robin over the URLs.
func (k *checkup) gather(ctx context.Context, urls []string) error {
	for i := range checkMembers + checkOthers {
		name, ward, list := fmt.Sprintf("nurse %d", i+1), "4B-"+k.run, &k.members
		if i >= checkMembers {
			ward, list = "2A-"+k.run, &k.others
		}
		base := urls[i%len(urls)]
		c, err := dialClient(ctx, base, name, ward)
		if err != nil {
			return fmt.Errorf("-connect %s: %w", redacted(base), cause(err))
		}
		*list = append(*list, c)
	}
	sayf(k.out, "%d nurses of ward 4B: %s\n", len(k.members), spread(k.members))
	sayf(k.out, "%d nurses of ward 2A: %s\n", len(k.others), spread(k.others))
	return nil
}

// raise raises the alert and returns it when every nurse has all that will ever arrive.
func (k *checkup) raise(ctx context.Context) (event, error) {
	sender := k.members[0]
	alert, err := sender.raise(ctx, "bed 12: cardiac alarm")
	if err != nil {
		return alert, fmt.Errorf("%s could not raise an alert on instance %s: %w", sender.name, sender.instance, err)
	}
	sayf(k.out, "%s raises an alert on instance %s\n", sender.name, sender.instance)
	fenced := make(map[backplane.NodeID]bool)
	for _, c := range k.all() {
		if fenced[c.node] {
			continue
		}
		fenced[c.node] = true
		for _, ward := range []string{k.members[0].ward, k.others[0].ward} {
			if err := c.sendFence(ctx, ward, alert.ID); err != nil {
				return alert, fmt.Errorf("%s could not send a fence on instance %s: %w", c.name, c.instance, err)
			}
		}
	}
	for _, c := range k.all() {
		if err := c.awaitFences(ctx, alert.ID, alert.Node); err != nil {
			return alert, fmt.Errorf("%s on instance %s: no fence: %w", c.name, c.instance, err)
		}
	}
	return alert, nil
}

// judge counts. The last line is "delivered 9 of 9" only if nobody got anything that was not due.
func (k *checkup) judge(alert event) error {
	delivered, wrong := 0, 0
	for _, c := range k.members {
		switch n := c.alerts[alert.ID]; n {
		case 1:
			delivered++
		case 0:
			sayf(k.out, "%s on instance %s did not get it\n", c.name, c.instance)
		default:
			wrong += n - 1
			sayf(k.out, "%s on instance %s got it %d times\n", c.name, c.instance, n)
		}
		if c.missed > 0 {
			sayf(k.out, "%s on instance %s was told that alerts may be missing\n", c.name, c.instance)
		}
	}
	for _, c := range k.others {
		if n := c.alerts[alert.ID]; n > 0 {
			wrong += n
			sayf(k.out, "%s of ward 2A on instance %s got it %d times\n", c.name, c.instance, n)
		}
	}
	if wrong > 0 {
		sayf(k.out, "delivered %d of %d, and %d copies too many\n", delivered, len(k.members), wrong)
		return errNotDelivered
	}
	sayf(k.out, "delivered %d of %d\n", delivered, len(k.members))
	if delivered < len(k.members) {
		return errNotDelivered
	}
	return nil
}

func (k *checkup) all() []*client { return slices.Concat(k.members, k.others) }

func (k *checkup) close() {
	for _, c := range k.all() {
		c.close()
	}
}

// spread reads "3 on A, 3 on B, 3 on C".
func spread(clients []*client) string {
	count := make(map[string]int)
	for _, c := range clients {
		count[c.instance]++
	}
	var parts []string
	for _, c := range clients {
		if n := count[c.instance]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d on instance %s", n, c.instance))
			delete(count, c.instance)
		}
	}
	return strings.Join(parts, ", ")
}

// redacted is a URL without its password.
func redacted(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "(not a URL)"
	}
	return u.Redacted()
}

// cause takes off what package http says about a request that failed: the URL was named already.
func cause(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}
