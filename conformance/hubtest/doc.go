// Package hubtest proves a hub: it takes a function that puts one on a backplane, and puts every guarantee that a hub server
// relies on to the test, one property each. For hubkit over a transport of this module's engine that is
//
//	func TestHub(t *testing.T) {
//		open := func(in conformance.Instance) transport.Opener {
//			return mytransport.New(mytransport.Options{Address: address, Dial: in.Dial})
//		}
//		hubtest.Test(t, hubtest.Over(conformance.Transport(open, backplane.Options{})), hubtest.Strict("resume/expired"))
//	}
//
// resume/expired waits for as long as a token lives: it is exercised in a [Bubble] only, which sockets rule out, and Strict has to
// leave it out.
//
// Another hub is proven by the same properties: it needs the interfaces [Node], [Hub] and [Connection] and an [Opener]. What is
// exchanged is strings, bytes, contexts and errors; errors are told apart by errors.Is with the sentinels of packages hubkit and
// backplane, see [Hub].
//
// # How it works
//
// Each property opens three instances in a namespace of its own. The suite makes the clients: it sees what they are told, and
// makes them slow, stuck or failing. Nothing is waited for by time. Before clients are compared, the suite fences: each instance sends
// to each group, user and connection that was used, and to all, and what was sent earlier the same way has been delivered when that
// arrives, or never will be. So what must not arrive is known to be absent.
//
// An instance is killed by cutting its link for good, so that it can say no goodbye, or by its [Killer]. Links are cut where the
// instance dials through [conformance.Instance.Dial], or by its [Faulter].
//
// A property whose hook or ability is missing is reported as not exercised, never as proven; see [Without] and [Strict].
//
// # How to read a failure
//
// The first line is the promise, the second the clearest sight of its being broken, by the names of the property: n1, n2 and n3
// are instances, c1, c2, … clients in the order in which they connected. Then come the calls, faults and deliveries before it that
// concern those clients, the newest last, and the usual causes.
package hubtest
