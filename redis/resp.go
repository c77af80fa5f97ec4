package redis

import (
	"bufio"
	"errors"
	"io"
	"strconv"
)

// reader reads what a server sends in RESP2 to those who publish and subscribe: arrays of bulk strings, counts, and error
// replies. It allocates payloads and nothing else.
type reader struct {
	r *bufio.Reader
}

const (
	maxBulk = 512 << 20 // Redis' own limit
	trusted = 1 << 20   // a length up to this is allocated before its bytes have come
)

var (
	errSyntax = errors.New("the server sent what is not RESP2")
	errHuge   = errors.New("the server sent a length that is beyond 512 MiB")
)

func newReader(r io.Reader, size int) *reader { return &reader{bufio.NewReaderSize(r, size)} }

// reset starts over with another connection.
func (r *reader) reset(from io.Reader) { r.r.Reset(from) }

// refused is an error reply of the server.
type refused string

func (r refused) Error() string { return "the server said " + clean(string(r)) }

// array reads the head of an array and returns its length. Instead of an array there may be an error reply: it is
// returned as refused, and reading can go on.
func (r *reader) array() (int, error) {
	line, err := r.line()
	if err != nil {
		return 0, err
	}
	switch line[0] {
	case '*':
		return number(line[1:])
	case '-':
		return 0, refused(line[1:])
	default:
		return 0, errSyntax
	}
}

// bulk reads a bulk string. It is valid until the next call.
func (r *reader) bulk() ([]byte, error) {
	n, err := r.length()
	if err != nil {
		return nil, err
	}
	if n+2 > r.r.Size() {
		return r.body(n)
	}
	b, err := r.r.Peek(n + 2)
	if err != nil {
		return nil, eof(err)
	}
	if b[n] != '\r' || b[n+1] != '\n' {
		return nil, errSyntax
	}
	_, _ = r.r.Discard(n + 2) // all of it is buffered
	return b[:n], nil
}

// payload reads a bulk string into memory of its own.
func (r *reader) payload() ([]byte, error) {
	n, err := r.length()
	if err != nil {
		return nil, err
	}
	return r.body(n)
}

// count skips an integer, which is not negative. Instead of one there may be an error reply, as in array.
func (r *reader) count() error {
	line, err := r.line()
	if err != nil {
		return eof(err)
	}
	switch line[0] {
	case ':':
		_, err = number(line[1:])
		return err
	case '-':
		return refused(line[1:])
	default:
		return errSyntax
	}
}

func (r *reader) length() (int, error) {
	line, err := r.line()
	if err != nil {
		return 0, eof(err)
	}
	if line[0] != '$' {
		return 0, errSyntax
	}
	return number(line[1:])
}

// body reads n bytes and the end of the line. A long one is allocated as it comes.
func (r *reader) body(n int) ([]byte, error) {
	b := make([]byte, min(n, trusted))
	for got := 0; ; {
		if _, err := io.ReadFull(r.r, b[got:]); err != nil {
			return nil, eof(err)
		}
		if got = len(b); got == n {
			break
		}
		bigger := make([]byte, min(n, 2*got))
		copy(bigger, b)
		b = bigger
	}
	end, err := r.r.Peek(2)
	if err != nil {
		return nil, eof(err)
	}
	if end[0] != '\r' || end[1] != '\n' {
		return nil, errSyntax
	}
	_, _ = r.r.Discard(2)
	return b, nil
}

// line reads a line, at least one byte and its end, and returns it without the end. io.EOF means that none has begun.
func (r *reader) line() ([]byte, error) {
	line, err := r.r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, errSyntax
	case err != nil && len(line) > 0:
		return nil, eof(err)
	case err != nil:
		return nil, err
	case len(line) < len("*\r\n") || line[len(line)-2] != '\r':
		return nil, errSyntax
	}
	return line[:len(line)-2], nil
}

// number parses a length or a count.
func number(digits []byte) (int, error) {
	if len(digits) == 0 {
		return 0, errSyntax
	}
	n := 0
	for _, d := range digits {
		if d < '0' || d > '9' {
			return 0, errSyntax
		}
		if n = n*10 + int(d-'0'); n > maxBulk {
			return 0, errHuge
		}
	}
	return n, nil
}

// eof tells an end in the middle of a message from one between two.
func eof(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

const lineEnd = "\r\n"

// appendBulk and appendLength write what bulk reads, whole and without the bytes.
func appendBulk(buf []byte, s string) []byte {
	buf = append(appendLength(buf, len(s)), s...)
	return append(buf, lineEnd...)
}

func appendLength(buf []byte, n int) []byte {
	buf = strconv.AppendInt(append(buf, '$'), int64(n), 10)
	return append(buf, lineEnd...)
}
