package web

import "slices"

// allowHosts has a server answer requests that name a host of one of its users. Between two Corefiles both have a say, so that a
// reload refuses none of either.
func (s *shared) allowHosts() {
	var all []string
	for _, hosts := range s.users {
		for _, host := range hosts {
			all = append(all, canonicalHost(host))
		}
	}
	s.server.hosts.Store(&all)
}

// isAllowed reports whether the Corefile allows a host in requests. It is compared as a whole: a browser can be led here by the owner
// of a name alone, and these are the operator's.
func (s *Server) isAllowed(host string) bool {
	all := s.hosts.Load()
	return all != nil && slices.Contains(*all, host)
}
