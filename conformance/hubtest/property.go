package hubtest

import "slices"

// Version is the version of the suite. It grows when properties are added or become stricter.
const Version = "v1"

// Property is one promise of a hub and the way to prove it.
type Property struct {
	ID       string // stable: the subtest's name, "remote/join-is-effective"
	Contract string // the guarantee that it belongs to, "H0" to "H8", or "resume"
	Says     string // the promise, one sentence
	Why      string // what breaks in a hub server without it
	Often    string // the usual causes of a failure
	Since    string // the version of the suite that has it first
	Needs    Ability
	// Slow marks what takes as long as a farm needs to settle, or to notice a dead member; [Short] leaves it out.
	Slow bool

	// run opens instances, connects clients, calls and compares. It fails by the methods of world, which stop the goroutine.
	run func(w *world)
}

// Ability is what a property needs beyond what every hub has to have. A missing one makes it not exercised.
type Ability string

// The abilities. The first four concern what [Hub] and [Hooks] have anyway, and are missing only by [Without]; the others
// are found.
const (
	AbilityInvoke     Ability = "asking clients"
	AbilityDrain      Ability = "draining"
	AbilityGapHook    Ability = "a gap hook"
	AbilityStateHook  Ability = "a state hook"
	AbilityCut        Ability = "a link that can be cut"
	AbilityKill       Ability = "instances that can be killed"
	AbilityRaw        Ability = "a backplane below that is shown (Publisher)"
	AbilityUserGroups Ability = "memberships of users (UserGroups)"
	AbilityResume     Ability = "clients that come back (Resumer)"
	AbilityFreeTime   Ability = "time that costs nothing (Bubble)"
)

// Properties returns all properties, in the order of the guarantees.
func Properties() []Property {
	return slices.Concat(
		nameProperties(),
		deliveryProperties(),
		onceProperties(),
		remoteProperties(),
		wideProperties(),
		invokeProperties(),
		raceProperties(),
		slowProperties(),
		queryProperties(),
		deathProperties(),
		outageProperties(),
		gapProperties(),
		closingProperties(),
		userProperties(),
		resumeProperties(),
	)
}
