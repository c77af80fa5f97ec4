package hubkit

import (
	"crypto/rand"
	"encoding/base32"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/gobackplane/backplane"
)

// registryShards is how many locks the registries are spread over, so that connects, joins and lookups of different
// names do not wait for one another. A power of two.
const registryShards = 64

// registry holds the open connections of this instance by id.
type registry struct {
	seed   maphash.Seed
	shards [registryShards]struct {
		mu sync.RWMutex
		m  map[string]*Connection // guarded by mu
		_  [32]byte               // keeps neighbours off one cache line
	}
}

func (r *registry) add(c *Connection) {
	s := &r.shards[maphash.String(r.seed, c.id)%registryShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		s.m = make(map[string]*Connection)
	}
	s.m[c.id] = c
}

func (r *registry) remove(c *Connection) {
	s := &r.shards[maphash.String(r.seed, c.id)%registryShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, c.id)
}

func (r *registry) get(id []byte) *Connection {
	s := &r.shards[maphash.Bytes(r.seed, id)%registryShards]
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.m[string(id)]
}

// each calls f for every open connection, under the lock of a shard: f must not block.
func (r *registry) each(f func(*Connection)) {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.RLock()
		for _, c := range s.m {
			f(c)
		}
		s.mu.RUnlock()
	}
}

// shard returns the connections of one shard.
func (r *registry) shard(i int) []*Connection {
	s := &r.shards[i]
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Collect(maps.Values(s.m))
}

func (r *registry) len() (n int) {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.RLock()
		n += len(s.m)
		s.mu.RUnlock()
	}
	return n
}

var idText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding) //nolint:gochecknoglobals // a constant

const (
	idRandom = 10 // bytes of an id that are random: 80 bits, 16 characters
	maxID    = 64 // the longest id that we take from a caller
)

// newID makes a connection's id: the home, a dash, and random characters.
func newID(home backplane.NodeID) string {
	var random [idRandom]byte
	_, _ = rand.Read(random[:]) // never fails: see crypto/rand
	return string(home) + "-" + idText.EncodeToString(random[:])
}

// homeOf returns the node that a connection id belongs to, or false for what newID cannot have made.
func homeOf(id string) (backplane.NodeID, bool) {
	i := strings.LastIndexByte(id, '-')
	if i < 1 || len(id) > maxID || len(id)-i-1 != idText.EncodedLen(idRandom) {
		return "", false
	}
	for _, c := range []byte(id[i+1:]) {
		if (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return "", false
		}
	}
	return backplane.NodeID(id[:i]), true
}
