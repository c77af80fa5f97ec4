package nats

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/gobackplane/backplane/transport"
)

// The bucket is a stream with the settings that a key-value bucket has. The node that first misses it makes it; of several that
// do so at once all get the same one. One that was made by somebody else is used, unless it cannot keep what the store
// promises: then every call says what is wrong with it.

func (b *bus) bucketName() string { return cmp.Or(b.set.bucket, "backplane-"+b.cfg.Namespace) }
func (b *bus) streamName() string { return "KV_" + b.bucketName() }

// subject is where the values of the namespace are, below it.
func (b *bus) subject(key string) string {
	return "$KV." + b.bucketName() + "." + b.cfg.Namespace + "." + key
}

// view is what a link knows of the bucket: that it is right, and what time it is there.
type view struct {
	at   time.Time // our clock, when
	time time.Time // this was that of the server that leads the stream, and gives messages their times
}

// now is the time of the server that leads the stream.
func (v *view) now() time.Time { return v.time.Add(time.Since(v.at)) }

// viewLasts is how long a view is good for. In this time the clocks of two machines part by less than a millisecond.
const viewLasts = 10 * time.Second

// views is a link's part of the store.
type views struct {
	newest atomic.Pointer[view]
	turn   chan struct{} // filled by the call that looks; capacity 1
}

// bucket is the bucket as one call of the store finds it.
type bucket struct {
	*view

	l *link
}

// inBucket lets f talk to the server when the bucket is known to be right. Where f finds it gone, and so has changed nothing,
// it is made anew.
func (b *bus) inBucket(ctx context.Context, f func(context.Context, bucket) error) error {
	l, err := b.life.Current()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	for again := true; ; again = false {
		v, err := l.viewBucket(ctx)
		if err != nil {
			return err
		}
		if err = f(ctx, bucket{v, l}); !again || !errors.Is(err, errNoBucket) {
			return err
		}
		l.views.newest.CompareAndSwap(v, nil)
	}
}

// viewBucket looks at the bucket, if that was not done recently.
func (l *link) viewBucket(ctx context.Context) (*view, error) {
	recent := func() *view {
		if v := l.views.newest.Load(); v != nil && time.Since(v.at) < viewLasts {
			return v
		}
		return nil
	}
	if v := recent(); v != nil {
		return v, nil
	}
	select {
	case l.views.turn <- struct{}{}:
		defer func() { <-l.views.turn }()
	case <-ctx.Done():
		return nil, unavailable(context.Cause(ctx), "the bucket was not found in time")
	}
	if v := recent(); v != nil {
		return v, nil
	}
	v, err := l.findBucket(ctx)
	if err == nil {
		l.views.newest.Store(v)
	}
	return v, err
}

// findBucket asks for the bucket, and makes it where it is missing.
func (l *link) findBucket(ctx context.Context) (*view, error) {
	if !recentServer(l.nc.ConnectedServerVersion()) {
		return nil, unsupported("the store needs nats-server 2.11 or newer, for values that end by themselves, and this is " + l.nc.ConnectedServerVersion())
	}
	v, info, err := l.askForBucket(ctx, "INFO", nil)
	if codeOf(err) == codeNoStream {
		v, info, err = l.makeBucket(ctx)
	}
	if err != nil {
		return nil, err
	}
	if wrong := unfit(&info.Config, l.bus.bucketName()); wrong != "" {
		return nil, unsupported("the bucket " + l.bus.bucketName() + " " + wrong + "; name another one in Bucket, or have this one edited")
	}
	if want := l.bus.set.replicas; want != 0 && want != info.Config.Replicas {
		l.bus.replicasWarning.Do(func() {
			l.bus.cfg.Logger.Warn("the bucket was made with other Replicas; nats stream edit changes them",
				"bucket", l.bus.bucketName(), "replicas", info.Config.Replicas, "want", want)
		})
	}
	return v, nil
}

// makeBucket makes the bucket, unless another node has just done so, with other settings.
func (l *link) makeBucket(ctx context.Context) (*view, *jetstream.StreamInfo, error) {
	name := l.bus.bucketName()
	v, info, err := l.askForBucket(ctx, "CREATE", jetstream.StreamConfig{
		Name: l.bus.streamName(), Subjects: []string{"$KV." + name + ".>"},
		Description:       "the store of backplane nodes",
		MaxMsgsPerSubject: 1, MaxMsgs: -1, MaxBytes: -1, MaxMsgSize: -1, MaxConsumers: -1, Discard: jetstream.DiscardNew,
		Storage: jetstream.FileStorage, Replicas: cmp.Or(l.bus.set.replicas, 1),
		AllowMsgTTL: true, AllowRollup: true, DenyDelete: true, AllowDirect: true,
	})
	switch codeOf(err) {
	case codeNameInUse:
		return l.askForBucket(ctx, "INFO", nil)
	case codeNotClustered:
		return nil, nil, unsupported(fmt.Sprintf("Replicas is %d, and the server is not in a cluster: leave Replicas out", l.bus.set.replicas))
	case codeOverlap:
		return nil, nil, unsupported("another stream has the subjects of the bucket " + name + "; name another one in Bucket")
	case codeNeedsMaxBytes:
		return nil, nil, unsupported("the account allows no bucket without a largest size: make one with nats kv add " + name +
			" --marker-ttl=1m --max-bucket-size=100M")
	}
	return v, info, err
}

// askForBucket has an answer that describes the bucket's stream. The server's time in it is taken for that in the middle between
// question and answer.
func (l *link) askForBucket(ctx context.Context, verb string, config any) (*view, *jetstream.StreamInfo, error) {
	var question []byte
	if config != nil {
		var err error
		if question, err = json.Marshal(config); err != nil {
			return nil, nil, unavailable(err, "the bucket's settings cannot be sent")
		}
	}
	asked := time.Now()
	var info jetstream.StreamInfo
	if err := l.askAPI(ctx, "STREAM."+verb+"."+l.bus.streamName(), question, &info); err != nil {
		return nil, nil, err
	}
	return &view{at: asked.Add(time.Since(asked) / 2), time: info.TimeStamp}, &info, nil
}

// unfit says what is wrong with a bucket, "" for nothing.
func unfit(c *jetstream.StreamConfig, bucket string) string {
	switch {
	case len(c.Subjects) != 1 || c.Subjects[0] != "$KV."+bucket+".>" || c.SubjectTransform != nil:
		return "has other subjects than a key-value bucket"
	case c.Mirror != nil || c.Sealed || c.NoAck:
		return "cannot be written to: it is a mirror, sealed, or does not acknowledge"
	case c.Retention != jetstream.LimitsPolicy:
		return "has another retention than limits"
	case c.MaxMsgsPerSubject != 1:
		return fmt.Sprintf("has a history of %d where it must be 1: an older value would come back when the newest ends", c.MaxMsgsPerSubject)
	case !c.AllowMsgTTL:
		return "does not let values end by themselves (nats kv add --marker-ttl, nats stream edit --allow-msg-ttl)"
	case c.MaxAge != 0:
		return fmt.Sprintf("ends all values after %v, where each has its own time", c.MaxAge)
	case c.Discard != jetstream.DiscardNew && (c.MaxMsgs > 0 || c.MaxBytes > 0):
		return "drops old values when it is full, where it must refuse new ones"
	case c.MaxMsgSize > 0 && c.MaxMsgSize < maxMessage:
		return fmt.Sprintf("takes values up to %d bytes, where the store needs %d", c.MaxMsgSize, maxMessage)
	}
	return ""
}

// maxMessage is the largest message of the store: value, head and headers.
const maxMessage = transport.MaxValue + headSize + 512

// recentServer tells a server that lets each message have a time to live. What is no version is a newer one.
func recentServer(version string) bool {
	var major, minor int
	n, _ := fmt.Sscanf(strings.TrimPrefix(version, "v"), "%d.%d", &major, &minor)
	return n < 2 || major > 2 || major == 2 && minor >= 11
}
