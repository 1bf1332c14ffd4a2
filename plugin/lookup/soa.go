package lookup

import "github.com/miekg/dns"

// maxNoSOA is how many SOA questions may be without a reply before single names are no longer asked about. Plugins such as
// *hosts* have no SOA at all, however many names are tried.
const maxNoSOA = 256

// SOA returns the start of authority of the zone that holds a name, nil if it is not known. It is for queries: it notes
// that the answer is of use, and returns the question that should be requested, the zero value for none.
//
// top is the name itself, or one above it that is likely in the same zone. It is asked about once for all names below it,
// and its reply says where their zone begins; then that apex is asked about, once for the whole zone. An apex that is known
// between name and top is closer, and counts. The name itself is asked about if top has failed. Both are in lower case.
func (l *Resolver) SOA(name, top string) (soa *dns.SOA, missing Question) {
	return l.findSOA(name, top, (*entry).markUsed)
}

// PeekSOA is SOA without a note.
func (l *Resolver) PeekSOA(name, top string) *dns.SOA {
	soa, _ := l.findSOA(name, top, func(*entry) {})
	return soa
}

// findSOA is SOA, and calls mark for each entry that it needs.
func (l *Resolver) findSOA(name, top string, mark func(*entry)) (soa *dns.SOA, missing Question) {
	for off, end := 0, false; !end && len(name)-off > len(top); off, end = dns.NextLabel(name, off) {
		if x := l.entrySOA(name[off:]); x.isApex() {
			mark(x)
			return x.reply.Load().SOA, Question{}
		}
	}
	soa, missing, failed := l.askedSOA(top, mark)
	if failed && top != name && l.noSOA.Load() < maxNoSOA {
		soa, missing, _ = l.askedSOA(name, mark)
	}
	return soa, missing
}

// askedSOA is the SOA that the question for a name leads to. It failed if it was asked, and there never was a reply.
func (l *Resolver) askedSOA(name string, mark func(*entry)) (soa *dns.SOA, missing Question, failed bool) {
	x := l.entrySOA(name)
	if x == nil {
		return nil, Question{name, dns.TypeSOA}, false
	}
	mark(x)
	r := x.reply.Load()
	if r == nil {
		return nil, Question{}, x.failures.Load() > 0
	}
	if r.Apex == name {
		return r.SOA, Question{}, false
	}
	apex := l.entrySOA(r.Apex)
	if apex == nil {
		return r.SOA, Question{r.Apex, dns.TypeSOA}, false
	}
	mark(apex)
	if apex.isApex() {
		r = apex.reply.Load() // which is renewed in time
	}
	return r.SOA, Question{}, false
}

func (l *Resolver) entrySOA(name string) *entry { return l.entries()[Question{name, dns.TypeSOA}] }

// isApex reports whether a zone begins at the name of an SOA question. It may be called for nil.
func (x *entry) isApex() bool {
	if x == nil {
		return false
	}
	r := x.reply.Load()
	return r != nil && r.Apex == x.Name
}
