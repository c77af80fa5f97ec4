// Package conformance proves a backplane: it takes a function that opens one, and puts every promise of the contract to
// the test, one property each. For a transport under this module's engine that is
//
//	func TestConformance(t *testing.T) {
//		open := func(in conformance.Instance) transport.Opener {
//			return mytransport.New(mytransport.Options{Address: address, Dial: in.Dial})
//		}
//		conformance.Test(t, conformance.Transport(open, backplane.Options{}), conformance.Strict())
//	}
//
// It needs nothing of the engine: a foreign backplane is proven by the same properties, with an [Opener] by hand that
// passes on what [Instance] has. docs/transports.md in this module's repository goes from nothing to a verdict for both.
//
// # Who has it put to the test
//
// [Test] makes a subtest of each property, [Check] returns a [Report] without package testing, [Run] judges one property.
// What they need to make links and brokers fail comes from [Instance.Dial], [Inject] and [Broker]. An option that does
// not fit is refused before anything is opened.
//
// # How it works
//
// Each property opens a few instances in a namespace of its own, subscribes, publishes, cuts links and closes. All that
// happens is recorded, with one counter as the clock, and rules judge the record: was everything heard once, in order,
// or covered by a gap; was nothing heard that should not be. A wait for something ends with the event itself and is
// bounded by one patience. What should not happen is awaited behind a fence (a message sent the same way and heard)
// and for a short linger, which all properties spend at the same time.
//
// A property whose hook is missing (a link that nobody can cut) is reported as not exercised, never as proven.
//
// # How to read a failure
//
// The first line is the promise, the second the clearest sight of its being broken. Then come at most twelve lines of what
// happened around it, with the faults and the pending calls that explain most; the usual causes; for a transport under the
// engine the rule of package transport that was probably broken; the last lines of the log before it; and how to repeat
// the run. n2#41 is the 41st publish of instance n2, n1/s2 the second subscription of n1 to the address. The whole history is
// kept with go test -artifacts. [ReadHistory] reads it again, wherever it comes from, and [History.Judge] judges it.
//
// # Reports
//
// [Check] returns a [Report], [Test] writes report.json and report.md where go test -artifacts keeps them. Two reports can be
// compared line by line. [Since] holds a run to a version of the suite, so that a new property warns before it fails. The
// command cmd/backplane runs the suite against a URL, and judges histories.
package conformance
