package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// threads are instances of this process, over brokers in its memory.
type threads struct {
	seats *seats
	farm  farm
}

func startThreads(ctx context.Context, s *seats, n int) (mortals, error) {
	t := &threads{seats: s}
	for i := range n {
		if _, err := t.farm.startInstance(ctx, s, string(rune('A'+i)), "127.0.0.1:0", ""); err != nil {
			closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
			defer cancel()
			_ = t.farm.close(closing) // the first error is the one to tell
			return nil, err
		}
	}
	return t, nil
}

func (t *threads) urls() (urls []string) {
	for _, in := range t.farm.instances {
		urls = append(urls, in.url)
	}
	return urls
}

// kill takes the node off the network first, so that it cannot say goodbye when its sockets die.
func (t *threads) kill(i int) error {
	in := t.farm.instances[i]
	if t.seats.broker != nil {
		t.seats.broker.Cut(in.node.ID())
	}
	in.server.crash()
	return nil
}

func (t *threads) close(ctx context.Context) error { return t.farm.close(ctx) }

// processes are instances that each are a process of this program, over a broker elsewhere.
type processes struct {
	list []*process
	end  context.CancelFunc // asks all of them to end
}

// process is a running one.
type process struct {
	cmd    *exec.Cmd
	url    string
	stderr bytes.Buffer // to be read when it has ended
	killed bool
}

func startProcesses(ctx context.Context, backplane string, n int) (mortals, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	// The check's end is a reason to end them in order, and not to kill them.
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	ps := &processes{end: end}
	for range n {
		p, err := startProcess(ctx, running, program, "-instances", "1", "-listen", "127.0.0.1:0", "-backplane", backplane)
		if err != nil {
			_ = ps.close(ctx) // the first error is the one to tell
			return nil, err
		}
		ps.list = append(ps.list, p)
	}
	return ps, nil
}

// startProcess returns when the process has said its URL.
func startProcess(ctx, running context.Context, program string, args ...string) (*process, error) {
	p := &process{cmd: exec.CommandContext(running, program, args...)} //nolint:gosec // it is this program
	p.cmd.Stderr = &p.stderr
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = closeTimeout
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err = p.cmd.Start(); err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { _ = p.cmd.Process.Kill() })() // it says nothing, or has ended
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("an instance ended: %w: %s", p.cmd.Wait(), strings.TrimSpace(p.stderr.String()))
	}
	_, rest, _ := strings.Cut(line, "http://")
	address, _, ok := strings.Cut(rest, " ")
	if !ok {
		return nil, errors.Join(fmt.Errorf("no URL in %q", line), p.cmd.Process.Kill(), p.cmd.Wait())
	}
	p.url = "http://" + address
	return p, nil
}

func (ps *processes) urls() (urls []string) {
	for _, p := range ps.list {
		urls = append(urls, p.url)
	}
	return urls
}

func (ps *processes) kill(i int) error {
	p := ps.list[i]
	if err := p.cmd.Process.Kill(); err != nil {
		return err
	}
	p.killed = true
	_ = p.cmd.Wait() // killed: always an error
	return nil
}

// close asks those that live to end, and waits until they have.
func (ps *processes) close(context.Context) error {
	ps.end()
	var errs []error
	for _, p := range ps.list {
		if p.killed {
			continue
		}
		if err := p.cmd.Wait(); err != nil && !errors.Is(err, context.Canceled) {
			errs = append(errs, fmt.Errorf("instance %s: %w", p.url, err))
		}
	}
	return errors.Join(errs...)
}
