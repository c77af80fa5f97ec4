package conformance

func orderProperties() []Property { return nil }
