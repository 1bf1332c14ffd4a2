package corefile

// Who decides which addresses a plugin answers with, if it is not the operator of this server. Errors say it.
const (
	byOwner  = "the owner of a remote zone chooses what is probed"
	byAsker  = "clients choose what is probed, by the name in the query"
	bySender = "the sender of a query chooses what is probed, by its source address"
	byLink   = "every host of the local network chooses what is probed"
)

// strangers are the plugins whose answers hold addresses that are chosen neither by the operator nor by those to whom the
// operator gives records. A stanza beside one of them needs within.
//
// These plugins of CoreDNS 1.15.0 answer with addresses too, and are not here. Of external ones, those are not here either whose
// addresses only their operator, or holders of a key or of rights in a cluster, can choose, such as wgsd and k8s_gateway:
//
//	file, auto, hosts, sign         the operator writes the records
//	dynupdate                       only holders of a key write, each the names that the operator allows
//	etcd, nomad                     only those write who have access to the store or may submit jobs
//	route53, azure, clouddns        only the operator's account writes
//	k8s_external                    it needs kubernetes beside it, which is here
//	erratic, local                  the addresses are constants
//	dns64, siit                     they translate what other plugins of the block answer
//	autopath, rewrite, cache, any   they change names, keep or block answers, and make no address of their own
//
// All others make no addresses: acl, chaos, dnssec, header, loadbalance, loop, minimal, transfer, tsig, view and those that
// configure the server. An alias that leads out of the server block is no way around: addresses of names outside the zones
// of a stanza are judged only if it has within.
var strangers = map[string]string{
	// They pass on what a server of another owner answers.
	"forward":   byOwner,
	"grpc":      byOwner,
	"secondary": byOwner,

	// They make the answer from the query. kubernetes does so in its Pod mode ("pods insecure"), which cannot be seen from
	// outside. template may be harmless, but what it answers with cannot be told from its text.
	"kubernetes": byAsker,
	"template":   byAsker,
	"whoami":     bySender,

	// External plugins, by the list on coredns.io/explugins. alias, finalize and flatten give addresses of other zones an owner
	// name in this one; gathersrv renames what other servers answer; k8s_dns_chaos is kubernetes with all of its modes.
	"alias":         byOwner,
	"alternate":     byOwner,
	"amazondns":     byOwner,
	"dnsredir":      byOwner,
	"ens":           byOwner,
	"fallback":      byOwner,
	"fanout":        byOwner,
	"finalize":      byOwner,
	"flatten":       byOwner,
	"gathersrv":     byOwner,
	"kubeforward":   byOwner,
	"meshname":      byOwner,
	"proxy":         byOwner,
	"recursor":      byOwner,
	"unbound":       byOwner,
	"ipecho":        byAsker,
	"ipin":          byAsker,
	"k8s_dns_chaos": byAsker,
	"kubernetai":    byAsker, // several kubernetes, with all of its modes
	"meship":        byAsker,
	"mdns":          byLink,
}

// CheckBeside refuses a stanza without within beside a plugin that lets strangers choose what is probed.
func (s *Config) CheckBeside(plugin string) error {
	who, ok := strangers[plugin]
	if !ok || len(s.Within) > 0 {
		return nil
	}
	return s.ErrorAt("", "within is missing, and required beside %s: without it, %s; name the networks of your servers, such as within 192.0.2.0/24", plugin, who)
}
