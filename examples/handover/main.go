// Handover is a job beside the hub servers: it tells wards and nurses that the shift ends, and who was there to be told. It
// opens the backplane and takes no connections, so it subscribes to nothing: of what travels between the servers it hears
// heartbeats, barriers and the answers to its own questions.
//
//	go run ./examples/handover -backplane redis://localhost:6379 -hub ward -text 'handover in 10 minutes' -ward 4B -nurse nurse-17
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/dial"
	"github.com/gobackplane/backplane/hubkit"
)

// namespace is the one of the ward board, unless the URL names another one.
const namespace = "wardboard"

// patience bounds the whole job.
const patience = 30 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "handover:", err)
		os.Exit(1)
	}
}

// job is a valid command line.
type job struct {
	url, hub, text string
	wards, nurses  []string
}

func parse(args []string) (job, error) {
	var j job
	fs := flag.NewFlagSet("handover", flag.ContinueOnError)
	fs.StringVar(&j.url, "backplane", "", "`URL` of the servers' backplane")
	fs.StringVar(&j.hub, "hub", "ward", "`name` of the servers' hub")
	fs.StringVar(&j.text, "text", "", "`text` to send")
	add := func(list *[]string) func(string) error {
		return func(name string) error { *list = append(*list, name); return nil }
	}
	fs.Func("ward", "`group` to send it to; may be given several times", add(&j.wards))
	fs.Func("nurse", "`user` to send it to; may be given several times", add(&j.nurses))
	if err := fs.Parse(args); err != nil {
		return j, err
	}
	if j.url == "" || j.text == "" || len(j.wards)+len(j.nurses) == 0 || fs.NArg() > 0 {
		return j, errors.New("-backplane, -text and at least one -ward or -nurse are needed, and nothing else")
	}
	return j, nil
}

// run opens the backplane, does the job, and says goodbye, so that no server has to wonder where this node went.
func run(ctx context.Context, args []string, out io.Writer) (err error) {
	j, err := parse(args)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	// A job that cannot reach the broker has failed. A server would start nevertheless, and wait for it.
	opener, o, err := dial.Parse(j.url, backplane.Options{Label: "handover", RequireBroker: true})
	if err != nil {
		return err
	}
	if o.Namespace == "" {
		o.Namespace = namespace
	}
	node, err := backplane.Open(ctx, opener, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.Close(context.WithoutCancel(ctx))) }()
	return j.do(ctx, node, out)
}

// do sends the text and tells who was there.
func (j *job) do(ctx context.Context, node *backplane.Node, out io.Writer) (err error) {
	hub, err := hubkit.New(node, hubkit.Options{Name: j.hub})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, hub.Close(context.WithoutCancel(ctx))) }()
	if err := hub.Send(ctx, hubkit.Target{Groups: j.wards, Users: j.nurses}, []byte(j.text)); err != nil {
		return err // which of the targets failed is in a *hubkit.SendError
	}
	// A node that has just come does not know all others yet. What is asked then is marked as partial, so this one waits.
	if err := node.Settled(ctx); err != nil {
		return err
	}
	for _, ward := range j.wards {
		if err := report(ctx, hub, out, "ward "+ward, hubkit.ToGroups(ward)); err != nil {
			return err
		}
	}
	for _, nurse := range j.nurses {
		if err := report(ctx, hub, out, nurse, hubkit.ToUsers(nurse)); err != nil {
			return err
		}
	}
	return nil
}

// report says how many connections there are of a target. Where an instance did not answer, the count is what is certain.
func report(ctx context.Context, hub *hubkit.Hub, out io.Writer, name string, of hubkit.Target) error {
	count, err := hub.Count(ctx, of)
	if err != nil {
		return err
	}
	atLeast := ""
	if count.Partial() {
		atLeast = "at least "
	}
	_, err = fmt.Fprintf(out, "%s: %s%d connections on %d instances\n", name, atLeast, count.Connections, len(count.Instances))
	for _, missing := range count.Missing {
		_, e := fmt.Fprintf(out, "  no answer of %s %s\n", missing.Label, missing.Node)
		err = errors.Join(err, e)
	}
	return err
}
