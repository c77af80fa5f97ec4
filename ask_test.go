package backplane_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/inmem"
	"github.com/gobackplane/backplane/internal/wire"
	"github.com/gobackplane/backplane/transport"
)

// echo answers with what it is asked.
func echo(_ context.Context, _ backplane.NodeID, request []byte) ([]byte, error) { return request, nil }

func TestAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		nodes := farm(t, broker, 2, backplane.Options{MaxPayload: 1000})
		a, b := nodes[0], nodes[1]
		synctest.Wait()
		for _, n := range nodes {
			n.Answer("echo", echo)
			n.Answer("from", func(_ context.Context, from backplane.NodeID, _ []byte) ([]byte, error) { return []byte(from), nil })
			n.Answer("fail", func(context.Context, backplane.NodeID, []byte) ([]byte, error) { return nil, errors.New("out of beds") })
			n.Answer("long failure", func(context.Context, backplane.NodeID, []byte) ([]byte, error) {
				return nil, errors.New(strings.Repeat("é", 1000))
			})
			n.Answer("too large", func(context.Context, backplane.NodeID, []byte) ([]byte, error) { return make([]byte, 1001), nil })
			n.Answer("nothing", func(context.Context, backplane.NodeID, []byte) ([]byte, error) { return nil, nil })
		}
		for _, to := range nodes { // the other and oneself alike
			ask := func(service string, request []byte) ([]byte, error) {
				return a.Ask(t.Context(), to.ID(), service, request)
			}
			for _, request := range [][]byte{nil, {}, []byte("?"), bytes.Repeat([]byte{0}, 1000)} {
				got, err := ask("echo", request)
				if err != nil || !bytes.Equal(got, request) {
					t.Errorf("echo of %d bytes: %q, %v", len(request), got, err)
				}
			}
			if got, err := ask("from", nil); err != nil || string(got) != string(a.ID()) {
				t.Errorf("from: %q, %v", got, err)
			}
			if _, err := ask("fail", nil); err == nil || !strings.Contains(err.Error(), "out of beds") {
				t.Errorf("fail: %v", err)
			}
			if _, err := ask("long failure", nil); err == nil || to == b && (len(err.Error()) > 400 || strings.Contains(err.Error(), "\uFFFD")) {
				t.Errorf("long failure: %v", err)
			}
			if got, err := ask("too large", nil); to == b && err == nil {
				t.Errorf("too large: %d bytes", len(got))
			}
			if got, err := ask("nothing", nil); err != nil || len(got) != 0 {
				t.Errorf("nothing: %q, %v", got, err)
			}
			_, err := ask("unknown", nil)
			wantIs(t, "unknown service", err, backplane.ErrUnsupported)
			_, err = ask("echo", make([]byte, 1001))
			wantIs(t, "large request", err, backplane.ErrTooLarge)
			_, err = ask("", nil)
			wantIs(t, "no service", err, backplane.ErrInvalidOption)
			_, err = ask(strings.Repeat("s", 257), nil)
			wantIs(t, "long service", err, backplane.ErrInvalidOption)
		}
		if s, r := a.Stats(), b.Stats(); s.QuestionsAsked != 20 || s.QuestionsServed != 10 || r.QuestionsServed != 10 {
			t.Errorf("asked %d, served %d + %d", s.QuestionsAsked, s.QuestionsServed, r.QuestionsServed)
		}
	})
}

func TestAnswerIsReplacedAndStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		nodes := farm(t, broker, 2, backplane.Options{})
		a, b := nodes[0], nodes[1]
		synctest.Wait()
		say := func(text string) backplane.AnswerFunc {
			return func(context.Context, backplane.NodeID, []byte) ([]byte, error) { return []byte(text), nil }
		}
		ask := func() string {
			got, err := a.Ask(t.Context(), b.ID(), "s", nil)
			if err != nil {
				return strconv.FormatBool(errors.Is(err, backplane.ErrUnsupported))
			}
			return string(got)
		}
		stop1 := b.Answer("s", say("one"))
		one := ask()
		stop2 := b.Answer("s", say("two"))
		two := ask()
		stop1() // not its any more
		still := ask()
		stop2()
		stop2()
		if got := []string{one, two, still, ask()}; !slices.Equal(got, []string{"one", "two", "two", "true"}) {
			t.Errorf("answers: %q", got)
		}
	})
}

// Who is not there is said so: at once, or as soon as it is known.
func TestAskWhoIsNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		nodes := farm(t, broker, 3, backplane.Options{})
		a, dying := nodes[0], nodes[1]
		leaving := openOnly(t, broker.Opener(), backplane.Options{})
		stuck := func(ctx context.Context, _ backplane.NodeID, _ []byte) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		dying.Answer("s", stuck)
		leaving.Answer("s", stuck)
		synctest.Wait()
		took := func(to backplane.NodeID) time.Duration {
			began := time.Now()
			_, err := a.Ask(within(t, time.Minute), to, "s", nil)
			if to != leaving.ID() || err == nil || !strings.HasSuffix(err.Error(), ": context canceled") { // its answer may still leave
				wantIs(t, "ask", err, backplane.ErrUnavailable)
			}
			if typed, ok := errors.AsType[*backplane.Error](err); !ok || typed.Op != "ask" {
				t.Errorf("%#v", err)
			}
			return time.Since(began)
		}
		time.Sleep(10 * time.Second) // it has settled
		for _, to := range []backplane.NodeID{"0123456789abcdef", "", "no id", "0123456789ABCDEG"} {
			if d := took(to); d != 0 {
				t.Errorf("an unknown node was waited for %v", d)
			}
		}
		left := async(func() time.Duration { return took(leaving.ID()) })
		synctest.Wait()
		wantIs(t, "close", leaving.Close(t.Context()))
		if d := <-left; d > time.Second {
			t.Errorf("a node that left was waited for %v", d)
		}
		died := async(func() time.Duration { return took(dying.ID()) })
		all := async(func() []backplane.Answer {
			answers, err := a.AskAll(t.Context(), "s", nil)
			wantIs(t, "ask all", err)
			return answers
		})
		synctest.Wait()
		broker.Cut(dying.ID())
		if d := <-died; d > 10*time.Second {
			t.Errorf("a node that died was waited for %v", d)
		}
		for _, answer := range <-all {
			want := backplane.ErrUnsupported
			if answer.Node == dying.ID() {
				want = backplane.ErrUnavailable
			}
			wantIs(t, "answer of "+string(answer.Node), answer.Err, want)
		}
		if d := took(dying.ID()); d != 0 {
			t.Errorf("a dead node was waited for %v", d)
		}
	})
}

// AskAll marks who did not answer in time, keeps the others' answers, and returns when its context ends.
func TestAskAllMarksWhoIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		nodes := farm(t, broker, 5, backplane.Options{})
		synctest.Wait()
		for i, n := range nodes {
			n.Answer("s", func(ctx context.Context, _ backplane.NodeID, _ []byte) ([]byte, error) {
				if i%2 == 1 {
					<-time.After(5 * time.Minute) // its context ends long before
				}
				return []byte(n.ID()), nil
			})
		}
		for _, asker := range nodes[:2] { // one that answers itself, and one that is late itself
			began := time.Now()
			answers, err := asker.AskAll(within(t, time.Second), "s", nil)
			if err != nil || len(answers) != 5 || time.Since(began) != time.Second {
				t.Fatalf("%d answers, %v, after %v", len(answers), err, time.Since(began))
			}
			for i, answer := range answers {
				if i > 0 && answers[i-1].Node >= answer.Node {
					t.Error("not sorted")
				}
				late := answer.Node == nodes[1].ID() || answer.Node == nodes[3].ID()
				if late {
					wantIs(t, "late", answer.Err, backplane.ErrUnavailable, context.DeadlineExceeded)
				} else if answer.Err != nil || string(answer.Payload) != string(answer.Node) {
					t.Errorf("%+v", answer)
				}
			}
		}
		time.Sleep(10 * time.Minute) // late answers find nobody
	})
}

// A question without a deadline whose answer is lost ends, too.
func TestAskWithoutDeadlineEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		nodes := farm(t, broker, 2, backplane.Options{})
		a, b := nodes[0], nodes[1]
		b.Answer("echo", echo)
		synctest.Wait()
		broker.Drop(a.ID(), 1, func(channel string, _ []byte) bool { return channel == "default:s:inbox/"+string(a.ID()) })
		began := time.Now()
		_, err := a.Ask(context.Background(), b.ID(), "echo", nil)
		wantIs(t, "ask", err, backplane.ErrUnavailable)
		if d := time.Since(began); d > 2*time.Minute {
			t.Errorf("it took %v", d)
		}
	})
}

// The asker's deadline travels, as the time that is left.
func TestDeadlineOfAQuestionTravels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		nodes := farm(t, broker, 2, backplane.Options{})
		synctest.Wait()
		for _, to := range nodes {
			ended := make(chan time.Duration, 1)
			to.Answer("s", func(ctx context.Context, _ backplane.NodeID, _ []byte) ([]byte, error) {
				began := time.Now()
				<-ctx.Done()
				ended <- time.Since(began)
				return nil, ctx.Err()
			})
			if _, err := nodes[0].Ask(within(t, 7*time.Second), to.ID(), "s", nil); err == nil {
				t.Error("an answer after the deadline")
			}
			if d := <-ended; d < 6*time.Second || d > 7*time.Second {
				t.Errorf("the context ended after %v", d)
			}
		}
	})
}

// A node that is asked too much says so at once.
func TestBusyNodeSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		nodes := farm(t, broker, 2, backplane.Options{})
		a, b := nodes[0], nodes[1]
		release := make(chan struct{})
		var running atomic.Int64
		b.Answer("s", func(context.Context, backplane.NodeID, []byte) ([]byte, error) {
			running.Add(1)
			<-release
			return nil, nil
		})
		synctest.Wait()
		var wg sync.WaitGroup
		var busy atomic.Int64
		for range 300 {
			wg.Go(func() {
				_, err := a.Ask(t.Context(), b.ID(), "s", nil)
				if errors.Is(err, backplane.ErrUnavailable) && strings.Contains(err.Error(), "too many") {
					busy.Add(1)
				} else if err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if busy.Load() != 44 || running.Load() != 256 {
			t.Errorf("%d are answered, %d refused", running.Load(), busy.Load())
		}
		close(release)
		wg.Wait()
		synctest.Wait() // an answer can be here before the goroutine that sent it is done
		_, err := a.Ask(t.Context(), b.ID(), "s", nil)
		wantIs(t, "afterwards", err)
	})
}

// Questions never wait behind a handler, nor behind a full queue of a subscription.
func TestQuestionsDoNotWaitBehindHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		nodes := farm(t, broker, 2, backplane.Options{QueueMessages: 2, ReceiveBytes: 1000})
		a, b := nodes[0], nodes[1]
		b.Answer("echo", echo)
		release := make(chan struct{})
		for range 10 {
			_, err := b.Subscribe(t.Context(), ward, func(context.Context, backplane.Event) { <-release })
			wantIs(t, "subscribe", err)
		}
		for range 10 {
			publish(t, a, ward, string(make([]byte, 500)))
		}
		time.Sleep(time.Minute)
		began := time.Now()
		_, err := a.Ask(t.Context(), b.ID(), "echo", nil)
		wantIs(t, "ask", err)
		if d := time.Since(began); d != 0 || b.Health().State != backplane.Up || len(a.Members()) != 2 {
			t.Errorf("it took %v; %+v", d, b.Health())
		}
		close(release)
	})
}

// A question of unknown fate is sent again, and answered once.
func TestRepeatedQuestionIsAnsweredOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		var inbox atomic.Value // of string: where the question goes, once
		inbox.Store("")
		opener, _ := tapped(broker, func(tp *tap) {
			tp.publish = func(_ context.Context, frames []transport.Frame, next func() []error) []error {
				errs := next()
				if channel := inbox.Load().(string); channel != "" && holds(frames, channel) { //nolint:forcetypeassert // stored above
					inbox.Store("")
					return all(len(frames), transport.ErrUncertain)
				}
				return errs
			}
		})
		a := open(t, opener, backplane.Options{})
		b := open(t, broker.Opener(), backplane.Options{})
		var served atomic.Int64
		b.Answer("s", func(context.Context, backplane.NodeID, []byte) ([]byte, error) {
			return nil, errors.New(fmt.Sprint("answer ", served.Add(1)))
		})
		synctest.Wait()
		inbox.Store("default:s:inbox/" + string(b.ID()))
		_, err := a.Ask(t.Context(), b.ID(), "s", nil)
		if err == nil || !strings.HasSuffix(err.Error(), "answer 1") {
			t.Errorf("ask: %v", err)
		}
		synctest.Wait()
		if k := served.Load(); k != 1 {
			t.Errorf("answered %d times", k)
		}
	})
}

// Answers that nobody waits for, twice or from somebody else, change nothing.
func TestStrayAnswersAreIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := inmem.NewBroker()
		nodes := farm(t, broker, 3, backplane.Options{})
		a, b := nodes[0], nodes[1]
		inbox := "inbox/" + string(a.ID())
		s := joinStranger(t, broker)
		forged := func(from backplane.NodeID, id byte, text string) []byte {
			frame := wire.AppendHeader(nil, publisherOf(t, from))
			return wire.AppendMessage(frame, wire.Answer, 's', "", inbox, 0, 0, nil, append([]byte{1, id, 0}, text...))
		}
		b.Answer("s", func(ctx context.Context, _ backplane.NodeID, _ []byte) ([]byte, error) {
			for id := range byte(20) { // not from who was asked; and of questions that were never asked
				s.send(t, "default:s:"+inbox, forged(nodes[2].ID(), id, "forged"), forged(b.ID(), 100+id, "forged"))
			}
			return []byte("real"), nil
		})
		synctest.Wait()
		got, err := a.Ask(t.Context(), b.ID(), "s", nil)
		if err != nil || string(got) != "real" {
			t.Errorf("%q, %v", got, err)
		}
		s.send(t, "default:s:"+inbox, forged(b.ID(), 1, "late"), forged(b.ID(), 1, "twice"))
		got, err = a.Ask(t.Context(), b.ID(), "s", nil)
		if err != nil || string(got) != "real" {
			t.Errorf("%q, %v", got, err)
		}
	})
}

func publisherOf(t *testing.T, id backplane.NodeID) wire.Publisher {
	t.Helper()
	var p wire.Publisher
	if k, err := hex.Decode(p[:], []byte(id)); err != nil || k != len(p) {
		t.Fatalf("%q: %v", id, err)
	}
	return p
}
