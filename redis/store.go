package redis

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/gobackplane/backplane/internal/watch"
	"github.com/gobackplane/backplane/transport"
)

// A value in the store is a string of Redis, under the namespace, ":kv/" and the key:
//
//	version   1 byte      '1'
//	revision  16 bytes    hexadecimal, random for each write
//	written   15 bytes    decimal: the server's Unix time in milliseconds
//	value     the rest
//
// Writes are scripts, so that the comparison and the write are one step, and the time is the server's. The script of
// put and remove returns one of the four outcomes.
const (
	storeVersion = "1"
	headSize     = 1 + 16 + 15

	outcomeDone     = 1
	outcomeConflict = 2
	outcomeMissing  = 3
	outcomeForeign  = 4 // the value is of another version, or of another program
)

// put writes a value: KEYS the key; ARGV the revision seen or "", the new revision, the value, the time to live in
// milliseconds or "0".
const put = `
local old = redis.call('GET', KEYS[1])
if ARGV[1] == '' then
	if old then return 2 end
elseif not old then return 2
elseif string.sub(old, 1, 1) ~= '1' then return 4
elseif string.sub(old, 2, 17) ~= ARGV[1] then return 2 end
local t = redis.call('TIME')
local v = '1' .. ARGV[2] .. string.format('%015.0f', t[1] * 1000 + math.floor(t[2] / 1000)) .. ARGV[3]
if ARGV[4] == '0' then redis.call('SET', KEYS[1], v) else redis.call('SET', KEYS[1], v, 'PX', ARGV[4]) end
return 1`

// remove deletes a value: KEYS the key; ARGV the revision seen.
const remove = `
local old = redis.call('GET', KEYS[1])
if not old then return 3 end
if string.sub(old, 1, 1) ~= '1' then return 4 end
if string.sub(old, 2, 17) ~= ARGV[1] then return 2 end
redis.call('DEL', KEYS[1])
return 1`

func (b *bus) key(key string) string { return b.cfg.Namespace + ":kv/" + key }

// Get asks for the value and for the server's time.
func (b *bus) Get(ctx context.Context, key string) (transport.Entry, error) {
	var value *goredis.StringCmd
	var now *goredis.TimeCmd
	err := b.ask(ctx, false, func(c *goredis.Client) error {
		pipe := c.Pipeline()
		value, now = pipe.Get(ctx, b.key(key)), pipe.Time(ctx)
		_, err := pipe.Exec(ctx)
		if errors.Is(err, goredis.Nil) {
			err = now.Err()
		}
		return err
	})
	switch {
	case err != nil:
		return transport.Entry{}, err
	case errors.Is(value.Err(), goredis.Nil):
		return transport.Entry{}, missing()
	}
	return parseValue(value.Val(), now.Val())
}

func parseValue(s string, now time.Time) (e transport.Entry, err error) {
	if len(s) < headSize || s[:1] != storeVersion {
		return e, foreign()
	}
	revision, err := strconv.ParseUint(s[1:17], 16, 64)
	if err != nil {
		return e, foreign()
	}
	written, err := strconv.ParseInt(s[17:headSize], 10, 64)
	if err != nil {
		return e, foreign()
	}
	age := max(now.Sub(time.UnixMilli(written)), 0) // the server's clock may have been set back
	return transport.Entry{Value: []byte(s[headSize:]), Revision: transport.Revision(revision), Age: age}, nil
}

// Create runs put for a key that has nothing.
func (b *bus) Create(ctx context.Context, key string, value []byte, ttl time.Duration) (transport.Revision, error) {
	return b.put(ctx, key, value, ttl, "")
}

// Update runs put for the revision seen.
func (b *bus) Update(ctx context.Context, key string, value []byte, ttl time.Duration, seen transport.Revision) (transport.Revision, error) {
	return b.put(ctx, key, value, ttl, revisionText(seen))
}

func (b *bus) put(ctx context.Context, key string, value []byte, ttl time.Duration, seen string) (transport.Revision, error) {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails: see crypto/rand
	text := hex.EncodeToString(random[:])
	if err := b.script(ctx, put, key, seen, text, value, ttl.Milliseconds()); err != nil {
		return 0, err
	}
	revision, err := strconv.ParseUint(text, 16, 64)
	return transport.Revision(revision), err
}

func revisionText(r transport.Revision) string { return fmt.Sprintf("%016x", uint64(r)) }

// Delete runs remove.
func (b *bus) Delete(ctx context.Context, key string, seen transport.Revision) error {
	return b.script(ctx, remove, key, revisionText(seen))
}

// Expire sets the server's own time to live.
func (b *bus) Expire(ctx context.Context, key string, ttl time.Duration) error {
	there := true
	err := b.ask(ctx, true, func(c *goredis.Client) (err error) {
		if ttl > 0 {
			there, err = c.PExpire(ctx, b.key(key), ttl).Result()
			return err
		}
		pipe := c.Pipeline() // PERSIST says false for a key that has no end, too
		exists := pipe.Exists(ctx, b.key(key))
		pipe.Persist(ctx, b.key(key))
		_, err = pipe.Exec(ctx)
		there = exists.Val() > 0
		return err
	})
	if err == nil && !there {
		err = missing()
	}
	return err
}

// Watch asks every second: Redis can tell of changes only where it was configured to, and not reliably.
func (b *bus) Watch(ctx context.Context, key string, f func(*transport.Entry)) error {
	return watch.Poll(ctx, nil, func() (transport.Entry, error) { return b.Get(ctx, key) }, f)
}

// script runs one of the scripts and makes its outcome an error.
func (b *bus) script(ctx context.Context, script, key string, args ...any) error {
	var outcome int
	err := b.ask(ctx, true, func(c *goredis.Client) (err error) {
		outcome, err = c.Eval(ctx, script, []string{b.key(key)}, args...).Int()
		return err
	})
	switch {
	case err != nil:
		return err
	case outcome == outcomeDone:
		return nil
	case outcome == outcomeConflict:
		return &failure{class: transport.ErrConflict, text: "the key has another revision, or none"}
	case outcome == outcomeMissing:
		return missing()
	default:
		return foreign()
	}
}

// ask lets f talk to the server on a connection of the store's, which is made when it is needed, to the server that the link
// is connected to. Where an answer does not come, a write is uncertain if something may have been sent.
func (b *bus) ask(ctx context.Context, write bool, f func(*goredis.Client) error) error {
	l, err := b.life.Current()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	way, err := l.store.take(ctx)
	if err != nil {
		return err
	}
	defer l.store.give(way)
	s, err := way.enter(ctx)
	if err != nil {
		return err
	}
	defer way.leave()
	before := s.sock.wire.sent.Load()
	err = way.run(ctx, s, func() error { return f(s.client) })
	switch {
	case err == nil:
		return nil
	case isReply(err):
		return storeRefusal(err.Error())
	case write && s.sock.wire.sent.Load() > before:
		return uncertain(err)
	default:
		return unavailable(err, "the server did not answer")
	}
}

// storeRefusal makes the error for an error reply.
func storeRefusal(reply string) error {
	const needs = "; the ACL user needs the keys of the namespace (~namespace:*) and +get +set +del +exists +pexpire +persist +time +eval"
	switch code, _, _ := strings.Cut(reply, " "); {
	case code == "NOPERM", strings.Contains(reply, "ACL failure in script"), strings.Contains(reply, "can't run this command"):
		return denied(nil, "the server said "+clean(reply)+needs)
	case code == "READONLY":
		return unavailable(nil, "the server said "+clean(reply))
	case code == "WRONGTYPE":
		return foreign()
	}
	return refusal(reply)
}

func missing() error {
	return &failure{class: transport.ErrKeyNotFound, text: "the store has nothing there"}
}

func foreign() error {
	return &failure{class: transport.ErrUnsupported, text: "the key has a value that this version did not write"}
}
