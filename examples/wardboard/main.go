// Command wardboard shows what a backplane is for. It runs three instances of a small hub server behind a load balancer
// without sticky sessions, and a web page with the nurses of a ward whose WebSockets the balancer deals over the
// instances. An alert that is raised on one instance has to reach all nine nurses; without a backplane it reaches three.
//
//	go run ./examples/wardboard                          # look at http://127.0.0.1:8080
//	go run ./examples/wardboard -backplane none          # the same without a backplane
//	go run ./examples/wardboard -check                   # without a person: "delivered 9 of 9"
//	go run ./examples/wardboard -check -kill             # one instance dies; the others notice: "delivered 6 of 6"
//
// A farm of processes over one Redis, or over NATS with nats://127.0.0.1:4222, and a check of it. With one key for their
// tokens, a nurse whose instance is gone comes back on another one, in her ward:
//
//	export WARDBOARD_KEY=$(openssl rand -hex 32)
//	go run ./examples/wardboard -instances 1 -listen 127.0.0.1:8081 -backplane redis://127.0.0.1:6379
//	go run ./examples/wardboard -instances 1 -listen 127.0.0.1:8082 -backplane redis://127.0.0.1:6379
//	go run ./examples/wardboard -check -connect http://127.0.0.1:8081,http://127.0.0.1:8082
//
// Its namespace is wardboard, unless the URL says ?namespace=ward, for a user who may use ward alone, as nats.conf has one.
//
// A farm without a broker: each process has a NATS server inside, and they find each other by a list that is the same for all.
//
//	export B='nats+embedded://127.0.0.1:6221?secret=SECRET&peers=127.0.0.1:6221,127.0.0.1:6222'
//	go run ./examples/wardboard -instances 1 -listen 127.0.0.1:8081 -backplane "$B"
//	go run ./examples/wardboard -instances 1 -listen 127.0.0.1:8082 -backplane "${B/6221/6222}"
//
// What to copy for a server of your own: instance.go (a hub server over one node), socket.go (a WebSocket as the hub sees
// it), ward.go (who is there, on all instances), and nginx.conf. What a real server has beside it, and this one has not:
// users who have logged in, and a decision who may join which ward, who may raise an alert, and who may disconnect others;
// TLS, which belongs in front of it; limits on connections and on messages per second; a store of alerts, from which a
// client fetches what it missed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// The exit statuses.
const (
	exitOK     = 0
	exitFailed = 1 // the check failed, or the machine did not have what was asked for
	exitUsage  = 2 // the command line is wrong
)

// closeTimeout bounds an orderly shutdown.
const closeTimeout = 10 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// run is the whole program: it returns the exit status when the check is over, or when ctx has ended and everything that
// was started has stopped.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c, err := parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		usage(stdout)
		return exitOK
	case err != nil:
	case c.check:
		err = check(ctx, c, stdout)
	default:
		err = serve(ctx, c, stdout, stderr)
	}
	return status(err, stderr)
}

// status tells what went wrong, in one line, and returns the exit status.
func status(err error, stderr io.Writer) int {
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errNotDelivered): // the last line of output says it
		return exitFailed
	}
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	if _, wrong := errors.AsType[*usageError](err); wrong {
		sayf(stderr, "wardboard: %s (-help lists the flags)\n", text)
		return exitUsage
	}
	sayf(stderr, "wardboard: %s\n", text)
	return exitFailed
}

// serve runs the ward board until ctx ends.
func serve(ctx context.Context, c config, stdout, stderr io.Writer) error {
	f, err := startFarm(ctx, c, stderr)
	if err != nil {
		return err
	}
	sayf(stdout, "ward board on %s (%s); Ctrl-C ends it\n", f.url, f.about)
	<-ctx.Done()
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	return f.close(closing)
}

// sayf prints. An output that cannot be written to is no reason to stop.
func sayf(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
