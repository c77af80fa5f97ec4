package conformance

func deliveryProperties() []Property { return nil }
