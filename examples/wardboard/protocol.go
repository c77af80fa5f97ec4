package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
)

// The protocol between a client and its instance: JSON objects in text messages, told apart by "type".
//
// A client sends first of all
//
//	hello   resume      its newest resume token; none if it is a new client
//
// and then
//
//	join    ward        hear the alerts of a ward
//	alert   ward, text  raise an alert; it reaches everybody in the ward, on whatever instance
//	fence   ward, id    send a fence to everybody in the ward, see below
//	health              ask how the instance is that the client is connected to
//
// and gets
//
//	welcome   which instance it is connected to, and which wards it is in: those of its past, where its token was accepted.
//	          Alerts of these, and "missed", may come before it
//	resume    a token to keep in place of the one before, for the next hello
//	joined    from now on every alert to the ward arrives
//	alert     somebody has raised one
//	sent      the client's own alert has been taken by the backplane
//	missed    alerts may be missing before this point; a real client now fetches the state of its ward
//	status    whether the backplane works, when that changes
//	fence     a fence
//	health    how the client's instance is: what hubkit's HealthHandler serves
//	error     the request was wrong or failed; nothing else happens to the connection
//
// The socket is closed with code 1008 and a text for the nurse where she was thrown out: then the client does not connect
// again by itself. After any other code, and after none, it does.
//
// A fence answers "has everything arrived by now?" without waiting for some time and hoping. Sends of one instance to one
// ward arrive in order, so whoever hears a fence of the instance that sent an alert has the alert, or never gets it. A
// client that is not connected to that instance by a backplane cannot hear that fence; but its own instance's fence
// tells which instances there are in its view. So a client has all that it will ever get when it has heard the fence
// of its own instance and, if the sending instance is one of those named in it, that instance's fence.

// The types of messages.
const (
	typeHello = "hello"
	typeJoin  = "join"
	typeAlert = "alert"
	typeFence = "fence"
	// typeHealth is both what a client sends and what it gets.
	typeHealth = "health"

	typeWelcome = "welcome"
	typeResume  = "resume"
	typeJoined  = "joined"
	typeSent    = "sent"
	typeMissed  = "missed"
	typeStatus  = "status"
	typeError   = "error"
)

// The limits of what a client may send.
const (
	maxMessage = 4096 // bytes; the socket of a client that sends more is closed, with WebSocket code 1009
	maxText    = 200  // bytes of an alert
	maxName    = 64   // bytes of the name of a ward or fence
	maxWards   = 8    // wards that one client may be in
	maxToken   = 2048 // bytes of a resume token; the names of all wards fit
)

// request is what a client sends.
type request struct {
	Type string `json:"type"`
	Ward string `json:"ward"`
	Text string `json:"text,omitempty"`
	ID   string `json:"id,omitempty"`

	Resume string `json:"resume,omitempty"`
}

// event is what a client gets. Each type uses the fields that it needs.
type event struct {
	Type string `json:"type"`
	ID   string `json:"id,omitempty"` // of an alert or fence
	Ward string `json:"ward,omitempty"`
	Text string `json:"text,omitempty"`
	By   string `json:"by,omitempty"` // the client that raised the alert

	Token   string   `json:"token,omitempty"`   // for the next hello
	Resumed bool     `json:"resumed,omitempty"` // whether the token of the hello was accepted
	Wards   []string `json:"wards,omitempty"`   // that the client is in

	// The instance that sent the alert or fence, or that welcomes.
	Instance string             `json:"instance,omitempty"`
	Node     backplane.NodeID   `json:"node,omitempty"`
	Members  []backplane.NodeID `json:"members,omitempty"` // the instances that this one knows, itself included

	Backplane string `json:"backplane,omitempty"` // which one is in use
	State     string `json:"state,omitempty"`     // "up", "degraded" or "down"
	Other     string `json:"other,omitempty"`     // where the same farm is with, or without, a backplane

	Health *hubkit.Health `json:"health,omitempty"`
}

func (e event) encode() []byte {
	b, err := json.Marshal(e)
	if err != nil {
		panic(err) // strings, numbers and times only
	}
	return b
}

// parseRequest reads what a client has sent. The errors are for the client.
func parseRequest(data []byte) (request, error) {
	var r request
	if !utf8.Valid(data) || json.Unmarshal(data, &r) != nil {
		return r, errors.New("not a JSON object with texts for type, ward, text and id")
	}
	switch r.Type {
	case typeHello, typeHealth:
		return r, nil
	case typeJoin:
	case typeAlert:
		if r.Text == "" || len(r.Text) > maxText {
			return r, fmt.Errorf("the text of an alert has 1 to %d bytes", maxText)
		}
	case typeFence:
		if r.ID == "" || len(r.ID) > maxName {
			return r, fmt.Errorf("the id of a fence has 1 to %d bytes", maxName)
		}
	default:
		return r, errors.New("the type is none of join, alert, fence and health")
	}
	if r.Ward == "" || len(r.Ward) > maxName {
		return r, fmt.Errorf("the name of a ward has 1 to %d bytes", maxName)
	}
	return r, nil
}
