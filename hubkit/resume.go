package hubkit

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/gobackplane/backplane"
)

// ResumeOptions let a client that lost its socket come back on any instance as who it was: with its groups, and with its old
// connection closed wherever that still hangs. The zero value turns it off.
//
// The hub gives each connection a signed token, see [Delivery.Resume]. The client keeps the newest one and presents it when it
// connects again, see [ConnectOptions.Resume]. A token is not encrypted: it shows the client its own user id and groups. It is
// a bearer credential for as long as it lives: send it over TLS only, and keep it out of logs.
//
// All instances must have the same options. The instances' clocks should agree within five minutes: beyond that a token can be
// refused too early, or live longer by as much as they differ.
type ResumeOptions struct {
	// Keys sign and verify: the first signs, all verify. To change a key, add the new one behind the others on all
	// instances, then make it the first, and take the old one away when Lifetime has passed. At most 16.
	Keys []ResumeKey
	// Lifetime is how long a token is accepted. A connected client gets a new one before the old one is two thirds through, so
	// an absent one has at least a third of it to come back. From 30 s to 24 h. Default 10 min.
	Lifetime time.Duration
	// Restore decides what of a connection's past still holds. It returns the groups that the new connection is to be in:
	// some of [Resumption.Groups], and whatever others the server finds right. An error refuses the connection, with
	// [ErrResumeDeclined]. It runs on the goroutine of Connect and may ask a database; the context is Connect's, and ends when
	// the hub closes.
	// Default none: then neither the user nor a group is restored, and coming back only closes the old connection and tells the gap.
	Restore func(ctx context.Context, r Resumption) (groups []string, err error)
	// MaxToken is the largest token, in bytes; longer ones are refused. Where a connection's groups do not fit, its token names
	// those that do, by name, see [Resumption.Trimmed]. From 2,048 to 65,536. Default 4,096: it fits a URL and a header.
	MaxToken int
	// NoStore keeps the hub from recording ended sessions in the backplane's store. Without it they are recorded where the backplane
	// has a store, so that a token stays refused when the instances that knew of it are gone; each resume reads a key. A store that says
	// ErrUnsupported, as NATS without JetStream does, is none; that is logged once.
	NoStore bool
}

// ResumeKey is a key for tokens. Printed or encoded it shows its ID only.
type ResumeKey struct {
	// ID names the key in tokens: 1 to 32 characters of a-z 0-9 _ -. It is no secret.
	ID string
	// Secret is 32 to 1,024 random bytes. What repeats less than eight different bytes is refused as no key.
	Secret []byte `json:"-"`
}

// Format implements [fmt.Formatter]: whatever the verb, a key does not show its secret.
func (k ResumeKey) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "ResumeKey("+k.ID+")") }

// Resumption is what is known of a connection that comes back.
type Resumption struct {
	Session    string // the same for all connections of the session
	Generation uint64 // of the connection that is being made; the session's first had 1
	User       string // "" for none
	// Groups are those that the old connection had joined, or been joined to, sorted. Memberships of the user
	// ([Hub.JoinUser]) are not among them: they are read anew.
	//
	// They are the newest that can be known: what the old connection's instance says if it can be asked, and what the token
	// says otherwise. So a leave that came after the token was made is undone at most where that instance is gone.
	Groups []string
	// Trimmed says that Groups are not all: not all fitted into the token, and the old connection's instance could not be asked.
	Trimmed bool
	// Stale says that Groups are of an older connection than the session's last, of which nothing else is known any more.
	Stale bool
	// Issued and Expires are the token's times, by the clock of the instance that made it.
	Issued, Expires time.Time
}

const (
	defaultLifetime  = 10 * time.Minute
	leastLifetime    = 30 * time.Second
	longestLifetime  = 24 * time.Hour
	defaultMaxToken  = 4096
	leastMaxToken    = 2048
	largestMaxToken  = 65536
	maxResumeKeys    = 16
	maxKeyID         = 32
	leastSecret      = 32
	longestSecret    = 1024
	leastSecretBytes = 8 // different ones
	// resumeSkew is how far the clocks of two instances may be apart.
	resumeSkew = 5 * time.Minute
)

// on reports whether clients can come back.
func (o *ResumeOptions) on() bool { return len(o.Keys) > 0 }

// keep is how long the hub remembers a session whose newest token may have been made just now.
func (o *ResumeOptions) keep() time.Duration { return o.Lifetime + resumeSkew }

// checked fills in the defaults.
func (o ResumeOptions) checked() (ResumeOptions, error) {
	if !o.on() {
		if o.Lifetime != 0 || o.Restore != nil || o.MaxToken != 0 || o.NoStore {
			return o, invalidOption("Resume.Keys", "must hold a key where another field of Resume is set")
		}
		return o, nil
	}
	if err := checkKeys(o.Keys); err != nil {
		return o, err
	}
	keys := make([]ResumeKey, len(o.Keys))
	for i, k := range o.Keys {
		keys[i] = ResumeKey{ID: k.ID, Secret: bytes.Clone(k.Secret)}
	}
	o.Keys = keys
	if o.Lifetime == 0 {
		o.Lifetime = defaultLifetime
	}
	if o.MaxToken == 0 {
		o.MaxToken = defaultMaxToken
	}
	switch {
	case o.Lifetime < leastLifetime || o.Lifetime > longestLifetime:
		return o, invalidOption("Resume.Lifetime", "must be 0, or from %v to %v, not %v", leastLifetime, longestLifetime, o.Lifetime)
	case o.MaxToken < leastMaxToken || o.MaxToken > largestMaxToken:
		return o, invalidOption("Resume.MaxToken", "must be 0, or from %d to %d, not %d", leastMaxToken, largestMaxToken, o.MaxToken)
	}
	return o, nil
}

// checkKeys refuses what is no key ring. No secret is in its errors.
func checkKeys(keys []ResumeKey) error {
	if len(keys) > maxResumeKeys {
		return invalidOption("Resume.Keys", "must hold at most %d keys, not %d", maxResumeKeys, len(keys))
	}
	for i, k := range keys {
		name := fmt.Sprintf("Resume.Keys[%d]", i)
		var seen [256]bool
		different := 0
		for _, b := range k.Secret {
			if !seen[b] {
				seen[b] = true
				different++
			}
		}
		switch {
		case len(k.ID) > maxKeyID || backplane.All().In(k.ID).Validate() != nil || k.ID == "":
			return invalidOption(name+".ID", "must be 1 to %d characters of a-z 0-9 _ -", maxKeyID)
		case len(k.Secret) < leastSecret || len(k.Secret) > longestSecret:
			return invalidOption(name+".Secret", "must be %d to %d bytes, not %d", leastSecret, longestSecret, len(k.Secret))
		case different < leastSecretBytes:
			return invalidOption(name+".Secret", "must be random: it has %d different bytes only", different)
		}
		for j, other := range keys[:i] {
			switch {
			case other.ID == k.ID:
				return invalidOption(name+".ID", "must not be that of Resume.Keys[%d]", j)
			case bytes.Equal(other.Secret, k.Secret):
				return invalidOption(name+".Secret", "must not be that of Resume.Keys[%d]", j)
			}
		}
	}
	return nil
}
