package multivalue

import (
	"crypto/tls"
	"testing"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/test"
)

// The interface is that of CoreDNS, where it has one.
var _ plugin.PluginTracker = tracker(nil)

// secure is a writer with a TLS connection. It knows which plugin wrote.
type secure struct {
	test.ResponseWriter
	wrote string
}

func (s *secure) ConnectionState() *tls.ConnectionState {
	return &tls.ConnectionState{ServerName: "dns.example.org"}
}
func (s *secure) SetPlugin(name string) { s.wrote = name }
func (s *secure) GetPlugin() string     { return s.wrote }

// The methods that other plugins expect of a writer also work on ours (T29).
func TestWriterForwards(t *testing.T) {
	s := new(secure)
	x := &writer{ResponseWriter: s}
	x.SetPlugin("file")
	if x.ConnectionState().ServerName != "dns.example.org" || x.GetPlugin() != "file" {
		t.Errorf("%v, %s", x.ConnectionState(), x.GetPlugin())
	}
	x = &writer{ResponseWriter: &test.ResponseWriter{}}
	x.SetPlugin("file")
	if x.ConnectionState() != nil || x.GetPlugin() != "" {
		t.Error("a plain writer has a connection")
	}
}
