package corefile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/answer"

	"github.com/miekg/dns"
)

// Here is how a stanza is shown to people: its text, and the value that each property has in effect. Values are written as in a
// Corefile, and come from what was parsed, so that a default is shown as what it is in force, and not as a second list says.

// Property is one property of a stanza with the value that is in effect.
type Property struct {
	Name    string // as in the Corefile; those in the block of another property after its name, such as "fleet key"
	Value   string // as it would be written after the name; "on" for a word alone, "off" without it; empty if there is none
	Default bool   // the stanza does not have it
	At      string // file and line; empty for a default
}

// written is a line of a stanza: a property, or a line in the block of one.
type written struct {
	name  string // as in Property
	at    string // file and line
	text  string // as written, but for checks, whose canonical text hides secrets
	depth int    // how far it is indented
}

// on is the value of a property that stands alone, and off that of one which is not there.
func on(set bool) []string {
	if set {
		return []string{"on"}
	}
	return []string{"off"}
}

// shownProperty is how the values of a property are shown: one for each line that would be written.
type shownProperty struct {
	name   string
	values func(s *Config) []string
}

// shownProperties are all of them, in the order of the manual. A test compares them with the table of properties.
var shownProperties = []shownProperty{
	// Each check is on a line of its own, in the text without secrets.
	{"check", func(s *Config) (all []string) {
		for _, c := range s.Checks {
			all = append(all, c.String())
		}
		return all
	}},
	// The zero value is what the word all stands for.
	{"require", func(s *Config) []string {
		if s.Require == (answer.Quorum{}) {
			return []string{"all"}
		}
		return []string{s.Require.String()}
	}},
	// The pace is complete: what was not written has been filled in by then.
	{"interval", func(s *Config) []string { return []string{span(s.Pace.Interval) + " " + span(s.Pace.Fast)} }},
	{"timeout", func(s *Config) []string { return []string{span(s.Pace.Timeout)} }},
	{"rise", func(s *Config) []string { return []string{strconv.Itoa(s.Pace.Rise)} }},
	{"fall", func(s *Config) []string { return []string{strconv.Itoa(s.Pace.Fall)} }},
	// These say which addresses, names and types are judged.
	{"within", func(s *Config) []string {
		var all []string
		for _, n := range s.Within {
			all = append(all, n.String())
		}
		return line(all...)
	}},
	{"except", func(s *Config) []string { return line(s.Except...) }},
	{"types", func(s *Config) []string {
		var all []string
		for _, t := range s.Types.Each() {
			all = append(all, dns.TypeToString[t])
		}
		return line(all...)
	}},
	// These are the policy. Some say nothing with a zero, which no one can write.
	{"limit", func(s *Config) []string {
		if s.Policy.Limit == 0 {
			return []string{"off"}
		}
		return []string{strconv.Itoa(s.Policy.Limit)}
	}},
	{"min_up", func(s *Config) []string { return []string{s.Policy.MinUp.String()} }},
	{"all_down", func(s *Config) []string { return []string{s.Policy.AllDownText()} }},
	{"backup", showBackups},
	// Files are named as the Corefile names them, and their content is never shown.
	{"force", func(s *Config) []string { return line(s.Force) }},
	{"state", func(s *Config) []string { return line(s.State) }},
	{"status", func(s *Config) []string { return line(s.Status) }},
	{"dry_run", func(s *Config) []string { return on(s.Policy.DryRun) }},
	{"ttl", showTTL},
	{"select", showSelect},
	// A file or a cluster has the sites, never both.
	{"topology", func(s *Config) []string {
		if s.Zoned != nil {
			return line(inCluster, s.Zoned.Kubeconfig, s.Zoned.Context)
		}
		return line(s.Topology)
	}},
	{"weight", showWeights},
	{"warmup", func(s *Config) []string {
		if s.Policy.Warmup == 0 {
			return on(false)
		}
		return []string{span(s.Policy.Warmup)}
	}},
	// These say what is learned before the first query.
	{"watch", func(s *Config) []string { return line(s.Watch...) }},
	{"preload", func(s *Config) []string { return on(s.Preload) }},
	{"max_targets", func(s *Config) []string { return []string{strconv.Itoa(s.MaxTargets)} }},
	// Without words it is the cluster that CoreDNS runs in.
	{"annotations", func(s *Config) []string {
		if s.Annotations == nil {
			return on(false)
		}
		if all := line(s.Annotations.Kubeconfig, s.Annotations.Context); all != nil {
			return all
		}
		return on(true)
	}},
	{"fleet", showFleet},
}

// shownFleet are the properties in the block of a fleet, as shownProperties.
var shownFleet = []struct {
	name   string
	values func(f *Fleet) []string
}{
	// These are files with secrets: their names are no secret.
	{"key", func(f *Fleet) []string { return line(f.Key) }},
	{"tls", func(f *Fleet) []string {
		if all := line(strings.Fields(tlsWords(f.Store))...); all != nil || !f.Store.TLS {
			return all
		}
		return on(true)
	}},
	{"credentials", func(f *Fleet) []string { return line(f.Store.Credentials) }},
	{"prefix", func(f *Fleet) []string { return line(f.Store.Prefix) }},
	// These have to be the same in all members that share a target.
	{"vantage", func(f *Fleet) []string { return []string{strconv.Itoa(f.Vantage)} }},
	{"quorum", func(f *Fleet) []string { return []string{f.Quorum.String()} }},
	// These are what this member says of itself.
	{"site", func(f *Fleet) []string { return line(f.Site) }},
	{"listen", func(f *Fleet) []string { return line(f.Listen) }},
	{"advertise", func(f *Fleet) []string { return line(f.Advertise) }},
	{"name", func(f *Fleet) []string { return line(f.Name) }},
}

// line is one line with the words that are not empty, or none if all are.
func line(words ...string) []string {
	// What is not set is an empty word in the values that were parsed.
	words = slices.DeleteFunc(slices.Clone(words), func(w string) bool { return w == "" })
	if len(words) == 0 {
		return nil
	}
	for i := range words {
		words[i] = quoteWord(words[i])
	}
	return []string{strings.Join(words, " ")}
}

// span is a duration without parts that are zero, such as 5m in place of 5m0s.
func span(d time.Duration) string {
	// time.Duration writes all units below the largest one.
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// showTTL shows the bounds of TTLs. Without a maximum, which has no word in a Corefile, it says so in brackets.
func showTTL(s *Config) []string {
	bound := func(seconds uint32) string { return span(time.Duration(seconds) * time.Second) }
	switch t := s.Policy.TTL; {
	case t.Off:
		return []string{"off"}
	case t.Max == 0:
		return []string{"(no maximum) " + bound(t.Min)}
	default:
		return []string{bound(t.Max) + " " + bound(t.Min)}
	}
}

// showSelect shows what decides which addresses an answer has.
func showSelect(s *Config) []string {
	switch p := &s.Policy; {
	case p.Nearest && p.Client:
		return []string{"nearest client"}
	case p.Nearest:
		return []string{"nearest"}
	case p.Client:
		return []string{"client"}
	default:
		return []string{"random"}
	}
}

// showWeights shows the weights: neighbours with the same one on one line. Their order counts.
func showWeights(s *Config) (all []string) {
	for i, w := range s.Policy.Weights {
		if i == 0 || s.Policy.Weights[i-1].Weight != w.Weight {
			all = append(all, strconv.Itoa(w.Weight))
		}
		// The line has its weight first, as in a Corefile.
		all[len(all)-1] += " " + w.Network.String()
	}
	return all
}

// showBackups shows the networks of each rank.
func showBackups(s *Config) (all []string) {
	// Networks are kept by size, so those of a rank are not together.
	for rank := range answer.MaxRank {
		text := strconv.Itoa(rank + 1)
		for _, b := range s.Policy.Backup {
			if int(b.Rank) == rank+1 {
				text += " " + b.Network.String()
			}
		}
		if strings.Contains(text, " ") {
			all = append(all, text)
		}
	}
	return all
}

// showFleet shows the members to begin with, or the endpoints of an etcd.
func showFleet(s *Config) []string {
	switch f := s.Fleet; {
	case f == nil:
		return nil
	case f.UsesStore():
		return []string{storeScheme + "//" + strings.Join(f.Store.Endpoints, ",")}
	default:
		return line(f.Peers...)
	}
}

// Properties are all properties of the stanza with their values in effect, in the order of the manual. A property that may repeat
// has an entry for each line, and those in a block follow that which the block belongs to.
func (s *Config) Properties() (all []Property) {
	for _, p := range shownProperties {
		all = s.addProperty(all, p.name, p.values(s))
		if p.name != "fleet" {
			all = s.addWritten(all, p.name)
		}
		if p.name != "fleet" || s.Fleet == nil {
			continue
		}
		for _, inner := range shownFleet {
			// What is for another kind of fleet cannot be written, so it has no value either.
			if over := fleetProperties[inner.name].over; over == overAny || (over == overStore) == s.Fleet.UsesStore() {
				all = s.addProperty(all, "fleet "+inner.name, inner.values(s.Fleet))
			}
		}
	}
	return all
}

// addWritten adds what was written in the block of a property, as it was written: such lines have no defaults to show.
func (s *Config) addWritten(all []Property, block string) []Property {
	for _, l := range s.written {
		if strings.HasPrefix(l.name, block+" ") {
			word := strings.TrimPrefix(l.name, block+" ")
			all = append(all, Property{Name: l.name, Value: strings.TrimPrefix(strings.TrimPrefix(l.text, word), " "), At: l.at})
		}
	}
	return all
}

// addProperty adds the values of a property, each with its own line if it was written as often as it is shown.
func (s *Config) addProperty(all []Property, name string, values []string) []Property {
	// A property that repeats may be shown on fewer lines than it was written on: then all have the last of these.
	lines := s.linesOf(name)
	if len(values) == 0 {
		values = []string{""}
	}
	for i, v := range values {
		p := Property{Name: name, Value: v, Default: len(lines) == 0}
		if len(lines) == len(values) {
			p.At = lines[i].at
		} else if len(lines) > 0 {
			p.At = s.Where(name)
		}
		all = append(all, p)
	}
	return all
}

// linesOf are the lines that a property was written on.
func (s *Config) linesOf(name string) (all []written) {
	for _, l := range s.written {
		if l.name == name {
			all = append(all, l)
		}
	}
	return all
}

// noteLine keeps a line of the stanza, to be shown. Its words are those that the parser gets, with what variables and imports stand for.
func (s *Config) noteLine(name, at string, depth int, words []string) {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = quoteWord(w)
	}
	s.written = append(s.written, written{name, at, strings.Join(quoted, " "), depth})
}

// noteCheck replaces the line of the check that was read last by its canonical text, in which no secret is.
func (s *Config) noteCheck() {
	s.written[len(s.written)-1].text = "check " + s.Checks[len(s.Checks)-1].String()
}

// Text is the stanza as it is written, one property a line, without comments. The values of secrets are left out, as in the text of
// a check.
func (s *Config) Text() string {
	var b strings.Builder
	b.WriteString(strings.Join(append([]string{"multivalue"}, s.named...), " ") + " {\n")
	// Only the depth of each line is kept, so braces are where it changes.
	depth := 1
	for i, l := range s.written {
		for ; depth > l.depth; depth-- {
			closeBlock(&b, depth-1)
		}
		depth = l.depth
		fmt.Fprintf(&b, "%s%s", strings.Repeat("    ", depth), l.text)
		if i+1 < len(s.written) && s.written[i+1].depth > depth {
			b.WriteString(" {")
		}
		b.WriteByte('\n')
	}
	for ; depth > 0; depth-- {
		closeBlock(&b, depth-1)
	}
	return b.String()
}

// closeBlock writes the brace that ends a block.
func closeBlock(b *strings.Builder, depth int) {
	b.WriteString(strings.Repeat("    ", depth) + "}\n")
}

// quoteWord quotes a word as a Corefile needs it, so that the text can be read again.
func quoteWord(word string) string {
	if word != "" && !strings.ContainsAny(word, " \t\r\n\"") {
		return word
	}
	return `"` + strings.ReplaceAll(word, `"`, `\"`) + `"`
}
