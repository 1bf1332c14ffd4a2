package check

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/netip"
)

// A Talk is a check as a conversation: a caller does the sending and receiving for many peers at
// once, and the Talk says what to send and judges what was received. It implements Talk of package
// wire. It must give the same result as [Check.Probe]; tests compare the two. It has no state, so
// any number of conversations may use one Talk.
type Talk struct {
	http *httpCheck // nil for tcp, where nothing is said
	// The request, before and after the value of the Host header, which depends on the address.
	beforeHost, afterHost []byte
}

// Talk returns the check as a conversation. It is nil if the check cannot be judged piece by piece
// without waiting: in TLS, about a body, or with a file to look at.
func (c *Check) Talk() *Talk { return c.talk }

// hostPlaceholder stands for the host while the request is written in advance. Only the Host header
// is replaced, so the same text elsewhere does no harm.
const hostPlaceholder = "host.invalid"

// newTalk makes the Talk of h, or that of a tcp check if h is nil. It returns nil if h cannot be a
// conversation. The request is written once here, so that a probe only has to copy it.
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
		return nil // Probe will report it, each time
	}
	mark := []byte("\r\nHost: " + hostPlaceholder + "\r\n") // the first header, so the first match is the right one
	i := bytes.Index(written.Bytes(), mark)
	if i < 0 {
		return nil
	}
	i += len("\r\nHost: ")
	return &Talk{http: h, beforeHost: written.Bytes()[:i], afterHost: written.Bytes()[i+len(hostPlaceholder):]}
}

// Request returns what to send to addr, nil if a connection is all that is asked for.
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

// Unsent is the reason for a request that could not be sent.
func (t *Talk) Unsent(err error) error { return requestFailure(err) }

// Hear judges everything received so far. ended is why no more will come, nil if more may come. If
// more is needed to judge, the conversation is not over.
func (t *Talk) Hear(received []byte, ended error) (over bool, result error) {
	if ended == nil && len(received) < responseLimit && bytes.IndexByte(received, '\n') < 0 {
		return false, nil // half a line decides nothing
	}
	r := receivedReader{left: received, ended: ended}
	_, result = t.http.judgeResponse(&r)
	if r.exhausted && ended == nil {
		return false, nil
	}
	return true, result
}

// Unconnected is the reason for a connection that could not be opened. It wraps [ErrAbstain] if it
// says nothing about the peer.
func (t *Talk) Unconnected(addr netip.AddrPort, err error) error {
	return connectFailure(addr.Addr(), err)
}

// Holds reports whether a peer that sent received keeps the connection open (RFC 9112, 9.3).
func (t *Talk) Holds(received []byte) bool {
	if t.http == nil {
		return true
	}
	src := &limitedReader{r: bytes.NewReader(received), left: responseLimit}
	response, err := t.http.final(bufio.NewReader(src), src)
	return err == nil && !response.Close
}

// HearAll is Hear and Holds in one, for a connection that is to be asked again. After a good answer it also reports whether that
// is complete, with nothing after it. A body that is too long for that is not waited for.
func (t *Talk) HearAll(received []byte, ended error) (over, stays, complete bool, result error) {
	if ended == nil && len(received) < responseLimit && bytes.IndexByte(received, '\n') < 0 {
		return false, false, false, nil
	}
	r := receivedReader{left: received, ended: ended}
	in, src := newReader(&r)
	defer readers.Put(in)
	response, err := t.http.final(in, src)
	if err == nil {
		err = t.http.accept(response)
	}
	if err != nil || ended != nil {
		return ended != nil || !r.exhausted, false, false, err
	}
	tooLong := response.Body != http.NoBody && response.ContentLength > responseLimit
	stays = !response.Close && (!tooLong || t.http.spec.hold)
	if stays && !tooLong {
		_, err = io.Copy(io.Discard, response.Body)
		_, after := in.Peek(1)
		complete = err == nil && after == io.EOF
	}
	return true, stays, complete, nil
}

// A receivedReader reads what was received, then ends with the given error. It notes whether the
// reader wanted more, which means that the judgement may still change.
type receivedReader struct {
	left      []byte
	ended     error // nil if more may come
	exhausted bool  // more was asked for than there is
}

// Read implements [io.Reader].
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
