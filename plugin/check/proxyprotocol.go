package check

import (
	"errors"
	"net"
)

// proxyOptions are the options of the schemes that connect over TCP.
var proxyOptions = []string{"proxy_protocol"}

// proxyHeader is a header of version 2 of the PROXY protocol with the command LOCAL (The PROXY
// protocol, 2.2): the signature, version and command, no address family, and no addresses. LOCAL is
// meant for health checks: the connection was made by the proxy itself, so the peer must take the
// addresses of the connection.
var proxyHeader = []byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00")

// setProxyProtocol parses the option proxy_protocol.
func setProxyProtocol(s *settings, _ []string) (shown []string, hidden []byte, err error) {
	s.dialer.proxyProtocol = true
	return nil, nil, nil
}

// announce sends the header of the PROXY protocol, if it is wanted. It is the first that the peer
// gets, even before TLS, and a write of its own.
func (d *dialer) announce(conn net.Conn) error {
	if !d.proxyProtocol {
		return nil
	}
	if _, err := conn.Write(proxyHeader); err != nil {
		return requestFailure(err)
	}
	return nil
}

// errOverUDP is the reason to refuse for dns over UDP what needs a connection.
var errOverUDP = errors.New("works over TCP only: add the option tcp, or remove it")
