package multivalue

import (
	"net/netip"
	"strings"

	"github.com/coredns-multivalue/multivalue/internal/text"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/coredns/caddy"
)

// maxQuorum is how many checks may stand in a stanza of which not all must pass: what they say fits on the stack of a
// query.
const maxQuorum = 16

func parseRequire(s *parsedStanza, c *caddy.Controller, args []string) error {
	switch share, isShare := strings.CutSuffix(args[0], "%"); {
	case args[0] == "all":
		return nil
	case args[0] == "any":
		s.quorum.Count = 1
		return nil
	case isShare:
		return parseCount(c, "the share of require", share, 100, &s.quorum.Percent)
	case strings.Trim(args[0], "0123456789") != "":
		return c.Errf("require %q: want all, any, a count or a share%s", args[0], text.Suggest(args[0], []string{"all", "any"}))
	default:
		return parseCount(c, "require", args[0], maxQuorum, &s.quorum.Count)
	}
}

// checkRequired looks for a quorum that no address could meet.
func (s *parsedStanza) checkRequired() error {
	need := len(s.checks)
	if s.quorum != (answer.Quorum{}) {
		need = s.quorum.Of(need)
	}
	if need > len(s.checks) {
		return s.errorAt("require", "require %d with %s: want at most as many as there are", need, text.Count(len(s.checks), "check"))
	}
	if need == len(s.checks) {
		return nil
	}
	if len(s.checks) > maxQuorum {
		return s.errorAt("require", "require with %s: want at most %d, unless all must pass", text.Count(len(s.checks), "check"), maxQuorum)
	}
	s.need = need
	return nil
}

// some is what the checks say of an address that has to pass only some of them. All are asked: looking is watching.
func (s *stanza) some(owner string, addr netip.Addr, port uint16, ttl uint32) verdict.Brief {
	var all [maxQuorum]verdict.Brief
	for i := range s.checks {
		all[i] = s.ask(&s.checks[i], owner, addr, port, ttl)
	}
	return verdict.Quorum(all[:len(s.checks)], s.need)
}
