package integration_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/hubkit/conntest"
	"github.com/gobackplane/backplane/internal/faultnet"
)

// resumeHub opens a node on a link of its own, which can be cut, and a hub whose clients can come back.
func resumeHub(t *testing.T, k keeper) (*hubkit.Hub, *faultnet.Link) {
	t.Helper()
	var d net.Dialer
	link := faultnet.New(d.DialContext)
	o := quick()
	o.Namespace = "ward"
	hub, err := hubkit.New(storeNode(t, k.open(link.Dial), o), hubkit.Options{
		Name: "ward", Resume: hubkit.ResumeOptions{
			Keys:    []hubkit.ResumeKey{{ID: "k1", Secret: []byte("0123456789abcdef0123456789abcdef")}},
			Restore: func(_ context.Context, r hubkit.Resumption) ([]string, error) { return r.Groups, nil },
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		link.Heal()
		if err := hub.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return hub, link
}

// newestToken waits for a token that the client is given.
func newestToken(ctx context.Context, t *testing.T, sock *conntest.Conn) string {
	t.Helper()
	for n := 1; ; n++ {
		d, err := sock.Wait(ctx, n)
		if err != nil {
			t.Fatal(err)
		}
		if d.Resume != "" {
			return d.Resume
		}
	}
}

// Over a real server, with the rights that the documentation asks for: a client comes back while its instance is silent, and is in its
// groups; when the server ends its session, it does not come back, although all that knew of that are gone; and its ghost is closed when
// the silent ones are heard again.
func TestResumeOverAStore(t *testing.T) { overKeepers(t, testResume) }

func testResume(t *testing.T, k keeper) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wardboardPatience)
	defer cancel()
	a, linkA := resumeHub(t, k)
	b, linkB := resumeHub(t, k)

	sock := conntest.New()
	old, err := a.Connect(ctx, sock, hubkit.ConnectOptions{User: "nurse"})
	if err != nil {
		t.Fatal(err)
	}
	if err = old.Join(ctx, "4B"); err != nil {
		t.Fatal(err)
	}
	token := newestToken(ctx, t, sock)

	linkA.Blackhole()
	sock = conntest.New()
	c, err := b.Connect(ctx, sock, hubkit.ConnectOptions{Resume: token})
	if err != nil {
		t.Fatal(err)
	}
	if c.User() != "nurse" || !slices.Equal(c.Groups(), []string{"4B"}) {
		t.Errorf("it came back as %q in %q", c.User(), c.Groups())
	}
	if err = b.Send(ctx, hubkit.ToGroups("4B"), []byte("bell")); err != nil {
		t.Error(err)
	}
	if err = sock.WaitPayload(ctx, "bell"); err != nil {
		t.Error(err)
	}
	if first, err := sock.Wait(ctx, 1); err != nil || first.Gap == nil {
		t.Errorf("the first delivery is %+v, %v", first, err)
	}

	token = newestToken(ctx, t, sock)
	if n, err := b.Disconnect(ctx, hubkit.ToConnections(c.ID()), hubkit.Reason{Code: hubkit.ReasonRefused}); n != 1 || err != nil {
		t.Errorf("disconnect: %d, %v", n, err)
	}
	linkB.Blackhole() // at once: it has told nobody but the store
	kept := k.kept(t)
	if len(kept) != 1 {
		t.Fatalf("the keys are %v", kept)
	}
	for key, ttl := range kept {
		if ttl < 14*time.Minute || ttl > 15*time.Minute+10*time.Second || !strings.Contains(key, "sessions/ward/") {
			t.Errorf("%s lasts %v", key, ttl)
		}
	}
	late, _ := resumeHub(t, k)
	if _, err = late.Connect(ctx, conntest.New(), hubkit.ConnectOptions{Resume: token}); !errors.Is(err, hubkit.ErrResumeEnded) {
		t.Errorf("a newcomer: %v, want ErrResumeEnded", err)
	}

	linkA.Heal()
	linkB.Heal()
	select {
	case <-old.Done():
	case <-ctx.Done():
		t.Error("the ghost is there still")
	}
	if _, err = a.Connect(ctx, conntest.New(), hubkit.ConnectOptions{Resume: token}); !errors.Is(err, hubkit.ErrResumeEnded) {
		t.Errorf("where it was first: %v, want ErrResumeEnded", err)
	}
}
