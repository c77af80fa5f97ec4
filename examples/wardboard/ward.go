package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
)

// What concerns a whole ward is asked over HTTP, of any instance: it asks the others, so it does not matter which one the
// balancer picks, and while one of them does not answer nothing waits behind the question, as it would on a nurse's socket.
//
//	GET  who?ward=4B        who is in a ward, as a roll
//	POST disconnect?id=…    ends the connection of a nurse on the list, on whatever instance she is
//
// Where it fails the answer is a line of text. A real server finds out here who asks, and whether they may.

// maxListed is how many nurses of a ward are listed. A page for larger wards turns pages, with hubkit.Page's Next.
const maxListed = 100

// whoTimeout bounds how long a list takes. An instance that does not answer is given up, and named, after half of it.
const whoTimeout = 2 * time.Second

// roll says who is in a ward, on all instances.
type roll struct {
	Instance string   `json:"instance"` // that answers
	Nurses   []listed `json:"nurses"`
	More     bool     `json:"more"`     // there are more than these
	Missing  []string `json:"missing"`  // instances that did not answer: their nurses are not in the list
	Settling bool     `json:"settling"` // the instance has just come, or come back, and may not know all others yet
}

// listed is a nurse in a roll.
type listed struct {
	ID       string    `json:"id"` // of the connection
	Name     string    `json:"name"`
	Instance string    `json:"instance"`
	Since    time.Time `json:"since"` // by the clock of that instance
}

func (in *instance) serveWho(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), whoTimeout)
	defer cancel()
	page, err := in.hub.List(ctx, hubkit.ToGroups(r.FormValue("ward")), hubkit.ListOptions{Limit: maxListed})
	if err != nil {
		in.refuse(w, err)
		return
	}
	answer := roll{Instance: in.name, Nurses: []listed{}, More: page.Next != "", Missing: []string{}, Settling: page.Settling}
	for _, c := range page.Connections {
		answer.Nurses = append(answer.Nurses, listed{ID: c.ID, Name: c.Label, Instance: c.Instance, Since: c.Since})
	}
	for _, m := range page.Missing {
		name := m.Label
		if name == "" {
			name = string(m.Node)
		}
		answer.Missing = append(answer.Missing, name)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(answer) //nolint:errchkjson // it can be encoded; an error says that whoever asked has gone
}

func (in *instance) serveDisconnect(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	// The code tells the client not to connect again; the text is for the nurse.
	reason := hubkit.Reason{Code: hubkit.ReasonRefused, Text: fmt.Sprintf("taken off the list, at instance %s", in.name)}
	if _, err := in.hub.Disconnect(ctx, hubkit.ToConnections(r.FormValue("id")), reason); err != nil {
		in.refuse(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// refuse answers why something could not be done. What people at the page can do about it depends on the kind of error.
func (in *instance) refuse(w http.ResponseWriter, err error) {
	status, text := http.StatusInternalServerError, "this failed; the server's log says why"
	switch {
	case errors.Is(err, backplane.ErrInvalidAddress), errors.Is(err, hubkit.ErrInvalidTarget):
		status, text = http.StatusBadRequest, "there can be no such ward or connection"
	case errors.Is(err, hubkit.ErrNotFound):
		status, text = http.StatusNotFound, "she is not connected any more"
	case errors.Is(err, backplane.ErrNodeLost), errors.Is(err, backplane.ErrTimeout):
		status, text = http.StatusGatewayTimeout, "her instance does not answer; it may have been done nevertheless"
	case errors.Is(err, backplane.ErrUnavailable), errors.Is(err, backplane.ErrClosed):
		status, text = http.StatusServiceUnavailable, "the backplane cannot be reached; nothing was done"
	default:
		in.log.Error("a request about a ward failed", "err", err)
	}
	http.Error(w, text, status)
}
