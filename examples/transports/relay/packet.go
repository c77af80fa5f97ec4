package relay

import (
	"bufio"
	"encoding/binary"
	"io"
)

// The kinds of packets. Names and data travel with their lengths, so any byte may stand in them.
const (
	publish     = 'P' // to the relay: data for a channel
	subscribe   = 'S' // to the relay: a channel
	unsubscribe = 'U' // to the relay: a channel
	welcome     = 'W' // from the relay: it has accepted the connection
	yes         = '+' // from the relay: done; it answers in order
	no          = '-' // from the relay: refused, and why
	message     = 'M' // from the relay: what was published
)

// packet is the kind, the lengths of the name (one byte) and the data (two bytes, big endian), and both.
type packet struct {
	kind byte
	name string
	data []byte
}

const packetHead = 1 + 1 + 2

func appendPacket(b []byte, p packet) []byte {
	b = append(b, p.kind, byte(len(p.name)))                  //nolint:gosec // checked against maxChannel
	b = binary.BigEndian.AppendUint16(b, uint16(len(p.data))) //nolint:gosec // checked against maxFrame
	b = append(b, p.name...)
	return append(b, p.data...)
}

// readPacket reads a packet into memory of its own: the engine keeps what it is handed.
func readPacket(r *bufio.Reader) (packet, error) {
	var head [packetHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return packet{}, err
	}
	name := int(head[1])
	rest := make([]byte, name+int(binary.BigEndian.Uint16(head[2:])))
	if _, err := io.ReadFull(r, rest); err != nil {
		return packet{}, err
	}
	return packet{head[0], string(rest[:name]), rest[name:]}, nil
}
