package wire

import "testing"

func TestRoundTrip(t *testing.T) {
	frame := AppendHeader(nil, Publisher{1, 2, 3, 4, 5, 6, 7, 8})
	frame = AppendMessage(frame, Data, 'g', "", "ward:4B", 7, 41, nil, []byte("alert"))
	frame = AppendNext(frame, Data, nil, []byte("again"))

	r, err := NewReader(frame)
	if err != nil {
		t.Fatal(err)
	}
	var m Message
	for i, want := range []string{"alert", "again"} {
		if !r.Next(&m) {
			t.Fatalf("message %d: %v", i, r.Err())
		}
		if string(m.Payload) != want || string(m.Name) != "ward:4B" || m.Number != uint64(41+i) {
			t.Errorf("message %d is %q number %d to %q", i, m.Payload, m.Number, m.Name)
		}
	}
	if r.Next(&m) || r.Err() != nil {
		t.Errorf("after the last message: %v", r.Err())
	}
}
