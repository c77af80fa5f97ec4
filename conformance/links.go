package conformance

func linkProperties() []Property { return nil }
