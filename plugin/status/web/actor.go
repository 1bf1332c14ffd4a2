package web

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/acting"
	"github.com/coredns-multivalue/multivalue/plugin/status"
)

// Here is what the log says of a change: who, what and why, in one line.

// maxLogged is how many networks a line in the log has, and maxLoggedText the longest reason, in bytes.
const (
	maxLogged     = 8
	maxLoggedText = 200
)

// connKey is the key of a request's connection in its context.
type connKey struct{}

// withConn keeps the connection of a request, by which the other end of a socket is known.
func withConn(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, conn)
}

// actorOf says who makes a request. The other end of a socket is a process that the system knows; over loopback, the token is all
// that is known.
func actorOf(r *http.Request, in settings) string {
	conn, _ := r.Context().Value(connKey{}).(net.Conn)
	if limited, ok := conn.(*limitedConn); ok {
		conn = limited.Conn
	}
	if socket, ok := conn.(*net.UnixConn); ok {
		who := peerOf(socket)
		if in.token != "" {
			who += " with the token"
		}
		return who
	}
	return "token from " + r.RemoteAddr
}

// madeText is a change that was made, as the file has it: none of it is written as it came.
func madeText(file *acting.File) string {
	made := file.Made
	// The list of the file's lines may end before the one that was added.
	text := made.State + " " + networksText(made.Networks)
	if !made.Until.IsZero() {
		text += " until " + made.Until.Format(time.RFC3339)
	}
	return text + quoted(made.Reason) + " in " + file.File
}

// missedNotes says which networks of a change have no target: they may be mistyped. It is no error, because an address may be in an
// answer later, or be covered by no check.
func missedNotes(snap *status.Snapshot, made *acting.Line) []string {
	if made == nil || made.State == "release" {
		return nil
	}
	// There are at most 256 networks, and a change is rare, so all targets are looked at for each.
	missed := unprobed(snap, made.Networks)
	if len(missed) == 0 {
		return nil
	}
	return []string{"no address that is probed now is in " + networksText(missed)}
}

// askedText is a change that was asked for. Its networks are valid, but for the space around them.
func askedText(c acting.Change) string {
	var networks []string
	for _, text := range c.Networks {
		networks = append(networks, strings.TrimSpace(text))
	}
	return c.State + " " + networksText(networks) + quoted(c.Reason)
}

// networksText lists networks, which a Forcer has accepted.
func networksText(networks []string) string {
	if n := len(networks); n > maxLogged {
		return fmt.Sprintf("%s and %d more", strings.Join(networks[:maxLogged], " "), n-maxLogged)
	}
	return strings.Join(networks, " ")
}

// quoted is a reason in quotes, with whatever is not printable escaped; nothing for none.
func quoted(reason string) string {
	if reason == "" {
		return ""
	}
	return fmt.Sprintf(" (%q)", reason[:min(len(reason), maxLoggedText)])
}
