package backplane

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"strconv"
)

func itoa(i int) string { return strconv.Itoa(i) }

// show formats an address with the given text in place of its name.
func (a Address) show(name string) string {
	s := a.kind.String()
	if a.kind != KindAll {
		s += fmt.Sprintf(" %q", name)
	}
	if a.scope != "" {
		s += fmt.Sprintf(" in %q", a.scope)
	}
	return s
}

// display is String, with the name as a short hash where names are not to be shown.
func (a Address) display(hashed bool) string {
	if !hashed || a.name == "" {
		return a.String()
	}
	sum := sha256.Sum256([]byte(a.name))
	return a.show("#" + hex.EncodeToString(sum[:4]))
}

var channelHash = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
