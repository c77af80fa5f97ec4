package hubkit_test //nolint:testableexamples // it serves until a signal comes

import (
	"context"
	"errors"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
	"github.com/gobackplane/backplane/redis"
)

// A hub server that is stopped without hurting its clients: it refuses new ones, sends the present ones elsewhere over ten
// seconds, and then stops serving. The whole fits into the 30 seconds that Kubernetes gives.
func ExampleHub_Drain() {
	ctx := context.Background()
	node, err := backplane.Open(ctx, redis.URL("redis://broker:6379"), backplane.Options{Namespace: "ward"})
	check(err)
	hub, err := hubkit.New(node, hubkit.Options{Name: "ward"})
	check(err)

	mux := http.NewServeMux()
	mux.Handle("/healthz/live", hubkit.LiveHandler())
	mux.Handle("/healthz/ready", hub.ReadyHandler(hubkit.ReadyOptions{}))
	mux.Handle("/healthz", hub.HealthHandler())
	mux.HandleFunc("/socket/{user}", func(w http.ResponseWriter, r *http.Request) {
		if hub.Draining() {
			http.Error(w, "connect elsewhere", http.StatusServiceUnavailable) // the balancer tries the next instance
			return
		}
		user := r.PathValue("user") // a server of yours takes it from its session
		if err := backplane.User(user).Validate(); err != nil {
			http.Error(w, "no such user", http.StatusBadRequest) // the next instance would not take it either
			return
		}
		conn := accept(w, r)                                                   // the package's recipes show it for WebSockets and server-sent events
		connecting, cancel := context.WithTimeout(r.Context(), 10*time.Second) // nobody may wait for a broker for ever
		defer cancel()
		c, err := hub.Connect(connecting, conn, hubkit.ConnectOptions{User: user})
		if err != nil {
			_ = conn.Close(hubkit.Reason{Code: whyNot(err)})
			return
		}
		<-c.Done()
	})
	server := &http.Server{Addr: ":8080", Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			log.Fatal(err)
		}
	}()

	stop, cancel := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer cancel()
	<-stop.Done()

	draining, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	report, err := hub.Drain(draining, hubkit.DrainOptions{Over: 10 * time.Second})
	if err != nil {
		log.Print(err)
	}
	for _, r := range report.Remained {
		log.Printf("connection %s: %d messages were not written", r.Connection.ID(), r.Messages)
	}

	closing, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	check(hub.Close(closing))
	check(server.Shutdown(closing)) // the handlers of hijacked sockets have ended with the drain
	check(node.Close(closing))
}

func accept(http.ResponseWriter, *http.Request) hubkit.Conn { return printer{} }

// whyNot is what a client is told whose connection was not made. Only what another instance may do better sends it there: the drain
// has begun just now, or this instance does not reach the broker.
func whyNot(err error) hubkit.ReasonCode {
	for _, here := range []error{hubkit.ErrDraining, backplane.ErrUnavailable, backplane.ErrClosed} {
		if errors.Is(err, here) {
			return hubkit.ReasonGoingAway
		}
	}
	return hubkit.ReasonFailed
}
