package check

import (
	"bufio"
	"bytes"
	"io"
	"net/netip"
)

// A Talk is a check as a conversation, for a caller that does the sending and receiving itself for many peers at once.
// It comes to the same result as [Check.Probe], which its tests hold it to. It has no state: any number of conversations
// may use it at once.
type Talk struct {
	http                  *httpCheck // nil for tcp, where nothing is said
	beforeHost, afterHost []byte     // the request, before and from behind the host
}

// Talk returns the check as a conversation, or nil if it is none that can be held piece by piece: one in TLS, one about
// a body, or one for which a file has to be looked at.
func (c *Check) Talk() *Talk { return c.talk }

// hostInPlace stands for the host where the request is written beforehand. No host that is asked for looks like it.
const hostPlaceholder = "host.invalid"

func newTalk(h *httpCheck) *Talk {
	if h == nil {
		return new(Talk)
	}
	if h.tls != nil || h.auth != nil || h.wantsBody() {
		return nil
	}
	var written bytes.Buffer
	request := *h.request
	request.Host = hostPlaceholder
	if err := request.Write(&written); err != nil {
		return nil // then Probe says why, each time
	}
	mark := []byte("\r\nHost: " + hostPlaceholder + "\r\n") // the only place: it is the first header
	i := bytes.Index(written.Bytes(), mark)
	if i < 0 {
		return nil
	}
	i += len("\r\nHost: ")
	return &Talk{http: h, beforeHost: written.Bytes()[:i], afterHost: written.Bytes()[i+len(hostPlaceholder):]}
}

// Request is what to send, nothing if the connection is all that is asked for.
func (t *Talk) Request(addr netip.AddrPort) []byte {
	if t.http == nil {
		return nil
	}
	host := t.http.host(addr)
	request := make([]byte, 0, len(t.beforeHost)+len(host)+len(t.afterHost))
	request = append(request, t.beforeHost...)
	request = append(request, host...)
	return append(request, t.afterHost...)
}

// Unsent puts a failure to send the request into words.
func (t *Talk) Unsent(err error) error { return requestFailure(err) }

// Hear judges what has been received so far. Unless ended says why there will be no more, the conversation may not be
// over.
func (t *Talk) Hear(received []byte, ended error) (over bool, result error) {
	if ended == nil && len(received) < responseLimit && bytes.IndexByte(received, '\n') < 0 {
		return false, nil // nothing can be said of half a line
	}
	r := receivedReader{left: received, ended: ended}
	_, result = t.http.judgeResponse(&r)
	if r.exhausted && ended == nil {
		return false, nil
	}
	return true, result
}

// Unconnected puts a failure to connect into words. [ErrAbstain] is in them if it says nothing about the peer.
func (t *Talk) Unconnected(addr netip.AddrPort, err error) error {
	return connectFailure(addr.Addr(), err)
}

// Holds reports whether a peer that sent this keeps the connection open (RFC 9112, 9.3).
func (t *Talk) Holds(received []byte) bool {
	if t.http == nil {
		return true
	}
	src := &limitedReader{r: bytes.NewReader(received), left: responseLimit}
	response, err := t.http.final(bufio.NewReader(src), src)
	return err == nil && !response.Close
}

// heard reads what was received, and then ends for the reason that it is given.
type receivedReader struct {
	left      []byte
	ended     error // nil: there may be more
	exhausted bool  // more was asked for than there is
}

// Read is that of an io.Reader.
func (h *receivedReader) Read(p []byte) (int, error) {
	if len(h.left) == 0 {
		h.exhausted = true
		if h.ended == nil {
			return 0, io.EOF
		}
		return 0, h.ended
	}
	n := copy(p, h.left)
	h.left = h.left[n:]
	return n, nil
}
