package conformance

func closingProperties() []Property { return nil }
