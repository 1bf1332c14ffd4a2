package fleet

import "github.com/coredns-multivalue/multivalue/plugin/verdict"

// agree makes one verdict of what several vantage points found, need of whom must find the target up: the state is that of
// verdict.Quorum. need is from 1 to len(all). agree changes all.
//
// Several checks of one address may each hear something else, so any of them lowers the weight or drains it. Vantage points all ask
// the same, so no single one does: the target is drained if more than half of those that do not find it down say so, and it has the
// median of the weights that they heard, the higher one of the middle two.
func agree(all []verdict.Brief, need int) verdict.Brief {
	wished, fit, drains := false, 0, 0
	var weights [101]uint8 // how many heard each
	for i, b := range all {
		wished = wished || b != b.Plain()
		if b.State().Fit() {
			fit++
			weights[min(b.Weight(), 100)]++
			if b.Drained() {
				drains++
			}
		}
		all[i] = b.Plain()
	}
	result := verdict.Quorum(all, need)
	if !wished {
		return result // as for nearly all targets
	}
	if 2*drains > fit {
		result = result.Drain()
	}
	above := 0
	for weight := 100; ; weight-- {
		if above += int(weights[weight]); 2*above >= fit {
			return result.Shedding(uint8(100 - weight))
		}
	}
}
