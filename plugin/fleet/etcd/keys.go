package etcd

import (
	"bytes"
	"cmp"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/coredns-multivalue/multivalue/plugin/fleet"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// All keys of a fleet are below PREFIX/NAME/:
//
//	members/ID       what a member says of itself, with its lease: without this key, the rest of it is void
//	votes/ID/PART    the votes of a member on the targets of one part, without a lease
//	wants/ID         what a member said last beside its votes, with its lease
//
// A lease has these two keys only: etcd needs long to end one that has thousands.
const (
	defaultPrefix = "/multivalue"
	// parts is how many parts the targets are cut into. A vote that changes is written with all others of its part.
	parts = 256
	// maxID is the longest name of a member, in bytes.
	maxID = 64
)

// partOf is the part that a target is in.
func partOf(t fleet.Target) uint8 { return uint8(t.Shard() / (fleet.Shards / parts)) }

// keySpace names the keys of a fleet.
type keySpace struct{ base string }

// keysOf are those of a fleet below a prefix.
func keysOf(prefix, name string) keySpace {
	return keySpace{strings.TrimRight(cmp.Or(prefix, defaultPrefix), "/") + "/" + url.PathEscape(name) + "/"}
}

func (k keySpace) rangeEnd() string           { return clientv3.GetPrefixRangeEnd(k.base) }
func (k keySpace) memberKey(id string) string { return k.base + "members/" + id }
func (k keySpace) wants(id string) string     { return k.base + "wants/" + id }
func (k keySpace) votesOf(id string) string   { return k.base + "votes/" + id + "/" }
func (k keySpace) part(id string, part uint8) string {
	return k.votesOf(id) + string([]byte{digits[part>>4], digits[part&15]})
}

const digits = "0123456789abcdef"

// keyKind is what a key is for.
type keyKind byte

const (
	keyOther keyKind = iota // nothing that this version knows
	keyMember
	keyVotes
	keyWants
)

// split says what a key is for, and of which member and part.
func (k keySpace) split(key []byte) (kind keyKind, id string, part uint8) {
	rest, ok := bytes.CutPrefix(key, []byte(k.base))
	if !ok || len(rest) > maxID+len("members/")+len("/00") {
		return keyOther, "", 0
	}
	folder, text, _ := strings.Cut(string(rest), "/")
	switch folder {
	case "members":
		kind = keyMember
	case "wants":
		kind = keyWants
	case "votes":
		var number string
		text, number, _ = strings.Cut(text, "/")
		n, err := strconv.ParseUint(number, 16, 8)
		if err != nil || k.part(text, uint8(n)) != string(key) { // one way to write it is enough
			return keyOther, "", 0
		}
		kind, part = keyVotes, uint8(n)
	}
	if kind == keyOther || !isID(text) {
		return keyOther, "", 0
	}
	return kind, text, part
}

// isID reports whether a text can be the name of a member. It goes to logs and pages.
func isID(text string) bool {
	return text != "" && len(text) <= maxID && !strings.ContainsFunc(text, func(r rune) bool { return !plain(r) })
}

// plain reports whether a character may be in the name of a member.
func plain(r rune) bool {
	return 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-' || r == '.' || r == '_'
}

// newID is the name of this process: that of the machine, for people, and some random digits.
func newID(random string) string {
	// Two processes of one machine, or of two with the same name, differ by the digits.
	host, _ := os.Hostname()
	host = strings.Map(func(r rune) rune {
		if !plain(r) {
			return '-'
		}
		return r
	}, strings.ToLower(host))
	return cmp.Or(host[:min(len(host), maxID-1-len(random))], "member") + "-" + random
}
