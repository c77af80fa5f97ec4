// Command backplane proves a backplane from the command line.
//
//	go run github.com/gobackplane/backplane/cmd/backplane conform redis://127.0.0.1:6379
//	go run github.com/gobackplane/backplane/cmd/backplane conform nats://127.0.0.1:4222
//	go run github.com/gobackplane/backplane/cmd/backplane judge order-per-publisher.jsonl
//
// Its exit status is 0 if no promise was seen broken, 1 if one was, and 2 if the run could not be done: what was asked for
// makes no sense, the broker does not answer, a file cannot be read or written, or the run was interrupted before the end.
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
)

// The exit statuses.
const (
	held   = 0 // nothing was seen broken
	broken = 1 // a promise is
	undone = 2 // the run could not be done, or not to its end
)

const usage = `Backplane proves a backplane.

  backplane conform [flags] [URL]   put every promise of the contract to the test over the broker at the URL
  backplane judge FILE...           judge the histories again that failures left behind; - is the standard input

The URL is one of the Go package dial: redis://user:password@host:6379, rediss:// for TLS; nats://user:password@host:4222 or
nats://token@host, tls:// for TLS; inmem: for no broker. Options of a node may stand in its query. Without one $BACKPLANE_URL
is taken, which keeps passwords out of lists of processes. At the broker the suite uses namespaces of its own, which begin
with "ct-".

Exit status: 0 no promise was seen broken, 1 one was, 2 the run could not be done, or was interrupted.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second one ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run does what the arguments say and returns the exit status. When ctx ends, what has been judged until then is told.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	command := ""
	if len(args) > 0 {
		command, args = args[0], args[1:]
	}
	var err error
	status := held
	switch command {
	case "conform":
		status, err = conform(ctx, args, stdout, stderr)
	case "judge":
		status, err = judge(args, stdin, stdout)
	case "help", "-h", "-help", "--help":
		sayf(stdout, "%s", usage)
	case "":
		sayf(stderr, "%s", usage)
		return undone
	default:
		err = fmt.Errorf("there is no command %q; there are conform and judge", command)
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		return held
	case err != nil:
		sayf(stderr, "backplane: %s\n", strings.TrimPrefix(strings.TrimPrefix(err.Error(), "backplane: "), "conformance: "))
		return undone
	}
	return status
}

// sayf prints. That nobody reads it can be told to nobody.
func sayf(to io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(to, format, args...) }
