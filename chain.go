package multivalue

import (
	"fmt"
	"slices"
	"strings"

	"github.com/coredns-multivalue/multivalue/plugin/annotation"
	"github.com/coredns-multivalue/multivalue/plugin/corefile"
	"github.com/coredns-multivalue/multivalue/plugin/lookup"
	"github.com/coredns-multivalue/multivalue/plugin/rules"

	"github.com/coredns/coredns/plugin"
)

// chain is the plugins of a server block, and the stanzas among them.
type chain struct {
	configs  []*corefile.Config
	handlers []plugin.Handler
	order    []string // of all directives: what comes first is above
}

// check refuses a chain in which a stanza would do harm.
func (c chain) check() error {
	if err := c.requireWithin(); err != nil {
		return err
	}
	for _, h := range c.handlers {
		if h.Name() != "cache" || slices.Index(c.order, "cache") > slices.Index(c.order, name) {
			continue
		}
		for _, s := range c.configs {
			if s.Policy.Client || s.Policy.Nearest {
				return fmt.Errorf("%s - %s below cache would give every client what the first one got: put multivalue above cache in the list of plugins, or use select random", s.At, s.Policy.DrawnBy()[0])
			}
		}
	}
	return nil
}

// requireWithin refuses a stanza that would let strangers choose what is probed.
func (c chain) requireWithin() error {
	for _, h := range c.handlers {
		for _, s := range c.configs {
			if err := s.CheckBeside(h.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// preload has the zones learned of the stanzas that ask for that.
func (c chain) preload(b *rules.Block) error {
	sources := lookup.Transferers(c.handlers)
	for _, s := range c.configs {
		if !s.Preload {
			continue
		}
		if len(sources) == 0 {
			return fmt.Errorf("%s - preload needs a plugin in the server block that can list its zone: use file, auto or secondary, or watch with the names", s.At)
		}
		b.Resolver.Preload(s.Zones, sources, s.FirstVerdicts())
	}
	return nil
}

// setClusterZones tells the stanzas that go by annotations where the names of Services are.
func (c chain) setClusterZones(b *rules.Block, stanzas []*rules.Stanza, k annotation.Kubernetes) error {
	for i, s := range c.configs {
		if s.Annotations == nil {
			continue
		}
		var zones []string
		for _, h := range c.handlers {
			more, named := k.Zones(h)
			if named && s.Annotations.Kubeconfig == "" {
				return s.ErrorAt("annotations", "annotations is about the cluster that CoreDNS runs in, and kubernetes in this server block may be about another: use annotations KUBECONFIG, for the same one")
			}
			zones = append(zones, more...)
		}
		if !stanzas[i].Overrides.SetZones(b, zones) {
			return s.ErrorAt("annotations", "annotations is about names of Services: add the plugin kubernetes to this server block")
		}
		if !stanzas[i].Overrides.HasServices() {
			return s.ErrorAt("annotations", "annotations is about names of Services, and none falls to this stanza: use a zone above or below %s", stanzas[i].Overrides.ServiceZone())
		}
	}
	return nil
}

// warnings says what of the chain does not go well with the place of multivalue in it. They are logged at every start; the
// server runs all the same.
func (c chain) warnings() []string {
	var warnings []string
	for _, s := range c.configs {
		warnings = append(warnings, s.Notices...)
	}
	ours := slices.Index(c.order, name)
	for _, h := range c.handlers {
		at := slices.Index(c.order, h.Name())
		switch {
		case h.Name() == "cache" && at < ours:
			warnings = append(warnings, "multivalue is below cache: what is cached keeps dead addresses until its TTL ends, and every client gets the same choice")
		case h.Name() == "dnssec" && at > ours:
			warnings = append(warnings, "multivalue is above dnssec: answers to queries with the DO bit are signed before multivalue sees them, and stay whole")
		case h.Name() == "dnssec" && slices.ContainsFunc(c.configs, orders):
			warnings = append(warnings, fmt.Sprintf("multivalue is below dnssec and draws the order of answers by %s: each order is a new signature; put multivalue above cache in the list of plugins, or remove that property", c.drawers()))
		case h.Name() == "dnssec" && slices.ContainsFunc(c.configs, samples):
			warnings = append(warnings, "multivalue is below dnssec and may answer with a sample: each draw is a new signature; limit off avoids that")
		case h.Name() == "loadbalance" && at < ours && slices.ContainsFunc(c.configs, orders):
			warnings = append(warnings, fmt.Sprintf("loadbalance is above multivalue and changes the order of every answer, so what %s makes of it is lost, and only the choice above limit is left: remove loadbalance from this server block", c.drawers()))
		}
	}
	return warnings
}

// orders reports whether a stanza draws the order of answers.
func orders(s *corefile.Config) bool { return len(s.Policy.DrawnBy()) > 0 }

// drawers names the properties that draw the order of answers, with their stanzas.
func (c chain) drawers() string {
	var words []string
	for _, s := range c.configs {
		if orders(s) {
			words = append(words, fmt.Sprintf("%s (%s)", strings.Join(s.Policy.DrawnBy(), " and "), s.At))
		}
	}
	return strings.Join(words, ", ")
}

// samples reports whether answers of a stanza may hold a part of a set.
func samples(s *corefile.Config) bool { return s.Policy.Limit > 0 }
