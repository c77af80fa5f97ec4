// Package conformance proves a backplane: it takes a function that opens one, and puts every promise of the contract to
// the test, one property each.
//
//	func TestConformance(t *testing.T) {
//		conformance.Test(t, func(ctx context.Context, in conformance.Instance) (backplane.Backplane, error) {
//			return mybackplane.Open(ctx, brokerURL(t), mybackplane.Options{
//				Namespace: in.Namespace, // keeps properties apart
//				Dial:      in.Dial,      // lets the suite cut the wire
//				Logger:    in.Logger,    // shown when a property fails
//			})
//		})
//	}
//
// It needs nothing of this module's engine: a foreign backplane is proven by the same properties. A transport under the
// engine is opened with [Transport].
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
