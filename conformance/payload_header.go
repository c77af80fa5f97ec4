package conformance

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
)

// A payload of the suite begins with a header, so that each message says itself which one it is, and what arrives damaged
// or at the wrong place can be named: a mark, the world's token, the publish, and a checksum of these.
const (
	tokenLen  = 8
	headerLen = len(headerMark) + tokenLen + 4 + 4

	headerMark = "bpct"
)

// castagnoli is in hardware on most machines.
func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// payload makes the payload of a publish: the header, a word that must not turn up in an error if there is room, and
// filling up to size bytes. A size below headerLen gives the header alone.
func (r *recorder) payload(pub, size int) []byte {
	b := make([]byte, max(size, headerLen))
	n := copy(b, headerMark)
	n += copy(b[n:], r.token[:])
	binary.BigEndian.PutUint32(b[n:], uint32(pub)) //nolint:gosec // a world has far less than 4 G publishes
	n += 4
	binary.BigEndian.PutUint32(b[n:], checksum(b[:n]))
	n += 4
	n += copy(b[n:], secret)
	for i := n; i < len(b); i++ {
		b[i] = byte(i * 131 >> 3 & 0xff)
	}
	return b
}

// readHeader returns the publish that a payload says it is of, -1 if it is none of this world's.
func (r *recorder) readHeader(b []byte) int {
	if len(b) < headerLen || !bytes.HasPrefix(b, []byte(headerMark)) {
		return -1
	}
	n := len(headerMark)
	if !bytes.Equal(b[n:n+tokenLen], r.token[:]) {
		return -1
	}
	n += tokenLen
	if binary.BigEndian.Uint32(b[n+4:]) != checksum(b[:n+4]) {
		return -1
	}
	return int(binary.BigEndian.Uint32(b[n:]))
}
