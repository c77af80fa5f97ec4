package embedded

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobackplane/backplane"
)

// Instances in processes of their own, with a server inside, that are killed while all publish and listen.

// processEnv holds the URL that a child process opens.
const processEnv = "BACKPLANE_TEST_PROCESS"

// rooms is how many addresses each instance publishes to and listens on.
const rooms = 2

func room(k int) backplane.Address { return backplane.Group("room-" + strconv.Itoa(k)) }

// TestInstanceInAChild is the process of an instance. Line by line it says what it heard, and what was taken of what it published.
func TestInstanceInAChild(t *testing.T) {
	at := os.Getenv(processEnv)
	if at == "" {
		return
	}
	n, err := backplane.Open(t.Context(), URL(at), backplane.Options{Namespace: "ward", Heartbeat: time.Second, MemberTimeout: 4 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = fmt.Fprintf(os.Stdout, format+"\n", args...) // its parent reads it
	}
	for k := range rooms {
		_, err := n.Subscribe(t.Context(), room(k), func(_ context.Context, e backplane.Event) {
			switch e := e.(type) {
			case *backplane.Message:
				say("heard %d %s %s", k, e.Publisher, e.Payload)
			case *backplane.Gap:
				say("gap %d %s!", k, e.Publisher)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	say("ready %s", n.ID())
	stop := make(chan struct{})
	var talking sync.WaitGroup
	for k := range rooms {
		talking.Go(func() {
			for number := 1; ; number++ {
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond):
				}
				if n.Publish(t.Context(), room(k), []byte(strconv.Itoa(number))) != nil {
					t.Errorf("what is in this process takes all")
					return
				}
				say("took %d %d", k, number)
			}
		})
	}
	lines := bufio.NewScanner(os.Stdin) // one: stop; its end: close
	lines.Scan()
	close(stop)
	talking.Wait()
	say("stopped")
	for lines.Scan() {
	}
	if err := n.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// process is an instance, seen from outside.
type process struct {
	name  string
	cmd   *exec.Cmd
	in    io.WriteCloser
	ready chan struct{} // closed when it listens
	quiet chan struct{} // closed when it publishes no more
	ended chan struct{} // closed when all that it said was read
	elder map[*process]bool

	mu    sync.Mutex // guards what follows
	id    string
	took  [rooms]int
	heard [rooms][]said
	other string // what else it said
}

// said is a message that a process heard, or a gap.
type said struct {
	by     string // the publisher; of a gap "" for any
	number int    // 0: a gap
}

// processes are a farm of them, which reach each other through relays only.
type processes struct {
	t      *testing.T
	listen [3]string
	relays [3][3]*relay
	seats  [3]*process
	every  []*process
}

func newProcesses(t *testing.T) *processes {
	t.Helper()
	f := &processes{t: t}
	for i := range f.listen {
		f.listen[i] = FreeAddress(t)
	}
	for from := range f.relays {
		for _, to := range everyone(from) {
			f.relays[from][to] = newRelay(t, f.listen[to])
		}
	}
	for i := range f.seats {
		f.start(i)
	}
	return f
}

// each does something to all ways between an instance and the others.
func (f *processes) each(i int, do func(*relay)) {
	for _, other := range everyone(i) {
		do(f.relays[i][other])
		do(f.relays[other][i])
	}
}

// start starts the instance at an address, and waits until it listens.
func (f *processes) start(i int) {
	f.t.Helper()
	var peers []string
	for _, to := range everyone(i) {
		peers = append(peers, f.relays[i][to].addr)
	}
	p := &process{
		name:  fmt.Sprintf("process %d", len(f.every)),
		cmd:   exec.CommandContext(context.Background(), os.Args[0], "-test.run=^TestInstanceInAChild$", "-test.timeout=5m"),
		ready: make(chan struct{}), quiet: make(chan struct{}), ended: make(chan struct{}), elder: map[*process]bool{},
	}
	p.cmd.Env = append(os.Environ(), processEnv+"=nats+embedded://"+f.listen[i]+"?secret=secret&advertise="+FreeAddress(f.t)+"&peers="+strings.Join(peers, ","))
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		p.in, err = p.cmd.StdinPipe()
	}
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(p.kill)
	for _, other := range f.every {
		p.elder[other] = true
	}
	f.every, f.seats[i] = append(f.every, p), p
	go p.read(out)
	f.await(p, "to listen", p.ready)
}

func (f *processes) await(p *process, what string, done <-chan struct{}) {
	f.t.Helper()
	select {
	case <-done:
	case <-p.ended:
		f.t.Fatalf("waited for %s %s, and it ended:\n%s", p.name, what, p.other)
	case <-time.After(soon):
		f.t.Fatalf("waited for %s %s", p.name, what)
	}
}

// read notes what the process says, until it ends. The last line of one that is killed may be torn.
func (p *process) read(out io.Reader) {
	defer close(p.ended)
	for lines := bufio.NewReader(out); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		f := append(strings.Fields(line), "", "", "", "")
		k, _ := strconv.Atoi(f[1])
		p.mu.Lock()
		switch f[0] {
		case "ready":
			p.id = f[1]
			close(p.ready)
		case "stopped":
			close(p.quiet)
		case "took":
			p.took[k], _ = strconv.Atoi(f[2])
		case "gap":
			p.heard[k] = append(p.heard[k], said{by: strings.TrimSuffix(f[2], "!")})
		case "heard":
			number, _ := strconv.Atoi(f[3])
			p.heard[k] = append(p.heard[k], said{f[2], number})
		default:
			p.other += line
		}
		p.mu.Unlock()
	}
}

// kill ends the process as kill -9 does, and waits until all that it had said is read.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
	_ = p.cmd.Wait() // it was killed
}

// missed looks for what a publisher's server had taken of its messages to a room and a listener did not hear. bare is the first of
// them for which no gap stands, 0 for none; where more may come, what is behind the last message that was heard is not judged.
func (p *process) missed(by *process, k int, whole bool) (missed, bare int) {
	by.mu.Lock()
	took := by.took[k]
	by.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	next, gap, began := 1, false, !p.elder[by]
	look := func(until int) {
		if missed += max(until-next, 0); began && next < until && !gap && bare == 0 {
			bare = next
		}
	}
	for _, s := range p.heard[k] {
		switch {
		case s.number == 0 && (s.by == "" || s.by == by.id):
			gap = true
		case s.number > 0 && s.by == by.id:
			if !began { // what was said before it listened
				next = s.number
			}
			look(s.number)
			next, gap, began = s.number+1, false, true
		}
	}
	if whole {
		look(took + 1)
	}
	return missed, bare
}

// told waits until who is there has heard all that a process published that does so no more, or a gap in its place.
func (f *processes) told(by *process) (missed int) {
	f.t.Helper()
	for _, p := range f.seats {
		if p == nil || p == by {
			continue
		}
		for k := range rooms {
			within(f.t, fmt.Sprintf("%s to hear all of %s in %v, or a gap", p.name, by.name, room(k)), func() bool {
				_, bare := p.missed(by, k, true)
				return bare == 0
			})
			m, _ := p.missed(by, k, true)
			missed += m
		}
	}
	return missed
}

// Instances are killed while all publish: with their routes well, and while what they send is under way for ever. What Publish
// returned nil for is heard by all others, or a gap tells that it was not.
func TestKilledInstancesLoseNothingSilently(t *testing.T) {
	t.Parallel()
	f := newProcesses(t)
	const some = 100 // messages
	talk := func(p *process) {
		p.mu.Lock()
		until := p.took[0] + some
		p.mu.Unlock()
		within(t, p.name+" to publish", func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.took[0] >= until
		})
	}
	for i := range f.seats {
		for _, stuck := range []bool{false, true} {
			p := f.seats[i]
			talk(p)
			if stuck {
				f.each(i, func(r *relay) { r.Blackhole() })
				talk(p)
			}
			p.kill()
			f.seats[i] = nil
			f.each(i, func(r *relay) { r.Cut() })
			missed := f.told(p)
			if stuck && missed == 0 {
				t.Error("nothing was missed: the test proves nothing")
			}
			t.Logf("%s was killed, stuck %v: %d missed by the others", p.name, stuck, missed)
			f.each(i, func(r *relay) { r.Heal() })
			f.start(i)
		}
	}
	for _, p := range f.seats {
		talk(p)
		if _, err := io.WriteString(p.in, "stop\n"); err != nil {
			t.Fatal(err)
		}
		f.await(p, "to be quiet", p.quiet)
	}
	for _, p := range f.seats {
		f.told(p)
	}
	for _, p := range f.seats {
		_ = p.in.Close() // which ends it
		select {
		case <-p.ended:
		case <-time.After(soon):
			t.Errorf("%s does not end", p.name)
		}
	}
	for _, p := range f.every {
		for _, by := range f.every {
			for k := range rooms {
				if _, bare := p.missed(by, k, false); p != by && bare > 0 {
					t.Errorf("%s missed %d of %s in %v, and no gap told it", p.name, bare, by.name, room(k))
				}
			}
		}
	}
}
