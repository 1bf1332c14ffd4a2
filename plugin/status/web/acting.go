package web

import "github.com/coredns-multivalue/multivalue/plugin/status"

// actingView is what a page shows of its settings.
type actingView struct {
	Admin      bool     // the page may change a file of forced states
	NeedsToken bool     // with a token
	Scope      bool     // there are other replicas, which a change does not reach
	Peers      []string // URLs of their pages
}

// acting returns what a page shows of its settings. It does not read the file: a page does, when it is open.
func (s *Server) acting(snap *status.Snapshot) actingView {
	in := s.inForce()
	return actingView{in.forcer != nil, in.token != "", snap.Summary.Fleet != nil || len(in.peers) > 0, in.peers}
}
