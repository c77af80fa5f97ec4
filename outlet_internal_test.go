package backplane

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// A list of items does what a slice of them does.
func TestItemListIsASlice(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var list itemList
	var model []*item
	for step := range 10_000 {
		switch op := random.IntN(10); {
		case op < 5:
			it := &item{}
			list.push(it)
			model = append(model, it)
		case op < 7 && len(model) > 0:
			i := random.IntN(len(model))
			list.remove(model[i])
			model = slices.Delete(model, i, i+1)
		case op < 9:
			var first *item
			if len(model) > 0 {
				first = model[0]
				model = model[1:]
			}
			if got := list.pop(); got != first {
				t.Fatalf("step %d: pop took another item", step)
			}
		default: // others go before them
			var others itemList
			before := make([]*item, random.IntN(4))
			for i := range before {
				before[i] = &item{}
				others.push(before[i])
			}
			others.append(&list)
			if !list.empty() {
				t.Fatalf("step %d: what was moved is still in its list", step)
			}
			list, model = others, slices.Concat(before, model)
		}
		var forth, back []*item
		for it := list.front; it != nil && len(forth) <= len(model); it = it.next {
			forth = append(forth, it)
		}
		for it := list.back; it != nil && len(back) <= len(model); it = it.prev {
			back = append(back, it)
		}
		slices.Reverse(back)
		if !slices.Equal(forth, model) || !slices.Equal(back, model) || list.empty() != (len(model) == 0) {
			t.Fatalf("step %d: %d items forth, %d back, want %d in order", step, len(forth), len(back), len(model))
		}
	}
}
