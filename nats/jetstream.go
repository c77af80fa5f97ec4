package nats

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gobackplane/backplane/transport"
)

// Refusals of JetStream that mean something to the store. Every refusal is definite: nothing was done.
const (
	codeNoMessage      = 10037
	codeNotForAccount  = 10039
	codeTooLarge       = 10054
	codeNameInUse      = 10058
	codeNoStream       = 10059
	codeOverlap        = 10065
	codeOvertaken      = 10071
	codeNotClustered   = 10074
	codeNotEnabled     = 10076
	codeNeedsMaxBytes  = 10113
	codeOvertakenOther = 10164 // what 10071 is where the stream has replicas
)

// codeOf returns JetStream's code of a refusal, 0 for any other error.
func codeOf(err error) int {
	if refused, ok := errors.AsType[*jetstream.APIError](err); ok {
		return int(refused.ErrorCode)
	}
	return 0
}

// errNoBucket leaves the package only where the bucket is gone again as soon as it has been made.
var errNoBucket = &failure{class: transport.ErrUnavailable, text: "no server has the bucket"}

// look reads what there is for a key. The question goes to the server that leads the stream, unlike a direct get, which
// any replica answers, also one that lags behind.
func (k bucket) look(ctx context.Context, key string) (*record, error) {
	question, err := json.Marshal(map[string]string{"last_by_subj": k.l.bus.subject(key)})
	if err != nil {
		return nil, unavailable(err, "the question cannot be sent")
	}
	var answer struct {
		Message struct {
			Sequence uint64    `json:"seq"`
			Header   []byte    `json:"hdrs"`
			Data     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
	}
	err = k.l.askAPI(ctx, "STREAM.MSG.GET."+k.l.bus.streamName(), question, &answer)
	switch codeOf(err) {
	case codeNoMessage:
		return &record{nothing: true}, nil
	case codeNoStream:
		return nil, errNoBucket
	}
	if err != nil {
		return nil, err
	}
	m := answer.Message
	r := &record{sequence: m.Sequence, nothing: marked(m.Header)}
	if !r.nothing {
		r.read(m.Time, m.Data, k.now())
	}
	return r, nil
}

// put has the message stored, if the one that it is to replace is still the last of its subject.
func (k bucket) put(ctx context.Context, key string, replaced uint64, w write) error {
	m := natsgo.NewMsg(k.l.bus.subject(key))
	m.Data = w.data
	m.Header.Set(headerExpect, strconv.FormatUint(replaced, 10))
	if w.ttl > 0 {
		m.Header.Set(headerTTL, strconv.FormatInt(int64((w.ttl+2*time.Second)/time.Second), 10))
	}
	if w.marker {
		m.Header.Set(headerKV, "DEL")
	}
	reply, err := k.l.request(ctx, m, true)
	if errors.Is(err, natsgo.ErrNoResponders) {
		return errNoBucket
	}
	if err != nil {
		return err
	}
	var taken jetstream.PubAck
	err = parseAnswer(reply, &taken)
	switch codeOf(err) {
	case codeOvertaken, codeOvertakenOther:
		return errOvertaken
	case codeTooLarge:
		return &failure{class: transport.ErrTooLarge, text: "the bucket takes no values of this size"}
	}
	if err == nil && taken.Stream != k.l.bus.streamName() {
		return uncertain(errors.New("another stream has the bucket's subjects"))
	}
	return err
}

// consume has f called for each new message of a key, until the subscription ends.
func (k bucket) consume(ctx context.Context, key string, f natsgo.MsgHandler) (*natsgo.Subscription, error) {
	inbox := k.l.nc.NewInbox()
	sub, err := k.l.nc.Subscribe(inbox, f)
	if err != nil {
		return nil, unavailable(err, "changes cannot be heard of")
	}
	stream, subject := k.l.bus.streamName(), k.l.bus.subject(key)
	name := inbox[strings.LastIndexByte(inbox, '.')+1:]
	question, err := json.Marshal(map[string]any{"stream_name": stream, "action": "create", "config": jetstream.ConsumerConfig{
		Name: name, FilterSubject: subject, DeliverSubject: inbox, DeliverPolicy: jetstream.DeliverNewPolicy, AckPolicy: jetstream.AckNonePolicy,
		HeadersOnly: true, MemoryStorage: true, Replicas: 1,
	}})
	if err == nil {
		var created jetstream.ConsumerInfo
		err = k.l.askAPI(ctx, "CONSUMER.CREATE."+stream+"."+name+"."+subject, question, &created)
	}
	if err != nil {
		_ = sub.Unsubscribe()
	}
	return sub, err
}

// askAPI asks JetStream something that changes no value.
func (l *link) askAPI(ctx context.Context, what string, question []byte, answer any) error {
	m := natsgo.NewMsg("$JS.API." + what)
	m.Data = question
	reply, err := l.request(ctx, m, false)
	if errors.Is(err, natsgo.ErrNoResponders) {
		return l.noJetStream()
	}
	if err != nil {
		return err
	}
	return parseAnswer(reply, answer)
}

// parseAnswer fills in an answer, or returns the refusal that it is.
func parseAnswer(reply *natsgo.Msg, answer any) error {
	var refused struct {
		Error *jetstream.APIError `json:"error"`
	}
	err := json.Unmarshal(reply.Data, &refused)
	if err == nil && refused.Error == nil {
		err = json.Unmarshal(reply.Data, answer)
	}
	switch {
	case err != nil:
		return uncertain(errors.New("what came as an answer is none of JetStream"))
	case refused.Error == nil:
		return nil
	}
	switch codeOf(refused.Error) {
	case codeNotForAccount, codeNotEnabled:
		return unsupported("the store needs JetStream, which is not enabled for the account: put jetstream: enabled into it in the server's configuration")
	}
	return unavailable(refused.Error, "JetStream refused")
}

// noJetStream is the error where nobody listens to JetStream's questions.
func (l *link) noJetStream() error {
	if on, _ := l.nc.ConnectedServerJetStream(); on {
		return unavailable(nil, "JetStream is not ready")
	}
	return unsupported("the store needs JetStream, which the server does not have: start nats-server with -js, or put jetstream {} into its configuration")
}

// request sends a question and waits for the answer, or for the server's word that the user may not ask.
func (l *link) request(ctx context.Context, m *natsgo.Msg, write bool) (*natsgo.Msg, error) {
	ctx, release := l.bound(ctx)
	defer release()
	if ctx.Err() != nil {
		return nil, unavailable(context.Cause(ctx), "nothing was sent")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer l.whenRefused(m.Subject, cancel)()
	wire := l.wire.Load()
	before := wire.sent.Load()
	reply, err := l.nc.RequestMsgWithContext(ctx, m)
	if err == nil || errors.Is(err, natsgo.ErrNoResponders) {
		return reply, err
	}
	if refused, ok := errors.AsType[*failure](context.Cause(ctx)); ok {
		return nil, refused
	}
	switch {
	case errors.Is(err, natsgo.ErrMaxPayload):
		return nil, &failure{class: transport.ErrTooLarge, text: "the value is larger than the server's max_payload"}
	case write && (wire.sent.Load() > before || !errors.Is(err, natsgo.ErrConnectionClosed)):
		return nil, uncertain(err) // where the connection stays, what has not left yet still will
	default:
		return nil, unavailable(err, "the server did not answer")
	}
}

// question is a request that the server has not answered.
type question struct {
	subject string
	refuse  func(error)
}

// whenRefused has refuse called when the server does not permit to publish on a subject, or answers to be heard.
func (l *link) whenRefused(subject string, refuse func(error)) (stop func()) {
	q := &question{subject, refuse}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unheard != nil {
		refuse(l.unheard)
	}
	l.questions[q] = struct{}{}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.questions, q)
	}
}

// refuse ends the questions on a subject. mu is held.
func (l *link) refuse(subject string) {
	for q := range l.questions {
		if q.subject != subject {
			continue
		}
		if values := l.bus.subject(""); strings.HasPrefix(subject, values) {
			subject = values + ">" // a key may be made of a user's name
		}
		q.refuse(denied(nil, "the store needs the permission to publish on "+subject))
	}
}

// refuseInbox ends all questions, now and later: their answers may not be heard. mu is held.
func (l *link) refuseInbox(inbox string) {
	prefix := l.nc.Opts.InboxPrefix
	if !strings.HasPrefix(inbox, prefix+".") {
		return
	}
	l.unheard = denied(nil, "the store needs the permission to subscribe to "+prefix+".>")
	for q := range l.questions {
		q.refuse(l.unheard)
	}
}

func unsupported(text string) error { return &failure{class: transport.ErrUnsupported, text: text} }
