package hubkit

import (
	"encoding/binary"
	"fmt"
	"time"
)

// invokeQuestion asks for an answer of a client, or says that nobody waits for it any more:
//
//	connection  uvarint length, bytes
//	invocation  uvarint length, bytes; at most maxID
//	limit       uvarint, milliseconds: how long the asker waits
//	request     the rest
type invokeQuestion struct {
	connection, id string
	limit          time.Duration
	request        []byte
}

func (q *invokeQuestion) encode(kind byte) []byte {
	b := []byte{questionVersion, kind}
	b = appendID(b, q.connection)
	b = appendID(b, q.id)
	b = binary.AppendUvarint(b, uint64(max(q.limit.Milliseconds(), 1)))
	if kind == askForget {
		return b
	}
	return append(b, q.request...)
}

// decodeInvoke reads one without its version and kind. The request is a part of b.
func decodeInvoke(b []byte) (invokeQuestion, error) {
	var q invokeQuestion
	connection, b, ok1 := cutBytes(b)
	id, b, ok2 := cutBytes(b)
	ms, b, ok3 := cutUvarint(b)
	if !ok1 || !ok2 || !ok3 || len(connection) > maxID || len(id) == 0 || len(id) > maxID || ms == 0 {
		return q, fmt.Errorf("%w: an invocation", errBroken)
	}
	q.connection, q.id, q.request = string(connection), string(id), b
	q.limit = min(time.Duration(min(ms, 1<<40))*time.Millisecond, invokeLongest)
	return q, nil
}
