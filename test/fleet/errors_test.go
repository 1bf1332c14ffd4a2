//go:build linux

package fleet

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// What is wrong with a fleet ends the start, and the error names the file, the line and what to do.
func TestErrorsAtTheStart(t *testing.T) {
	t.Parallel()
	s := newScene(t, 11)
	busy, err := net.Listen("tcp4", "127.8.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	udp, err := net.ListenPacket("udp4", "127.8.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	_, port, _ := net.SplitHostPort(busy.Addr().String())
	_, udpPort, _ := net.SplitHostPort(udp.LocalAddr().String())
	s.file("short", base64.StdEncoding.EncodeToString(make([]byte, 31))+"\n")
	s.file("text", "# a comment\nnot base64!\n")
	s.file("empty", "\n")
	key := "            key KEY\n"
	listen := "listen 127.8.0.NUMBER:FLEET"
	second := func(inner string) string {
		return fmt.Sprintf("example.net:DNS {\n    bind 127.8.0.1\n    erratic\n    multivalue {\n        check tcp://:BACKEND\n        within 127.0.0.0/8\n"+
			"        fleet 127.8.0.3 {\n            key DIR/key\n            %s\n            %s\n        }\n    }\n}\n", listen, inner)
	}
	etcd := func(inner string) []string { return append(toEtcd("127.0.0.1:9"), "INNER", inner) }
	for what, c := range map[string]struct {
		edits []string
		extra string
		at    string // on the line, the last of them
		want  string
	}{
		"no key":                     {[]string{key, ""}, "", "        fleet 127", "fleet needs a key: add key FILE to its block, with a line of `openssl rand -base64 32`"},
		"a key that does not exist":  {[]string{"KEY", "DIR/absent"}, "", "        fleet 127", "/absent does not exist: make one with: openssl rand -base64 32"},
		"a key of 31 bytes":          {[]string{"KEY", "DIR/short"}, "", "        fleet 127", "/short:1: the key has 31 bytes, not 32: make one with"},
		"a key that is not base64":   {[]string{"KEY", "DIR/text"}, "", "        fleet 127", "/text:2: the key is not base64: make one with"},
		"an empty key":               {[]string{"KEY", "DIR/empty"}, "", "        fleet 127", "/empty has no key: make one with"},
		"a port in use":              {[]string{listen, "listen 127.8.0.NUMBER:" + port}, "", "        fleet 127", ":" + port + " over TCP: use another port for the fleet"},
		"a port in use over UDP":     {[]string{listen, "listen 127.8.0.NUMBER:" + udpPort}, "", "        fleet 127", ":" + udpPort + " over UDP: use another port for the fleet"},
		"vantage 0":                  {[]string{"INNER", "vantage 0"}, "", "vantage 0", "invalid vantage 0: use a count from 1 to 16"},
		"quorum 200%":                {[]string{"INNER", "quorum 200%"}, "", "quorum 200%", "invalid quorum 200%: use a share from 1% to 100%"},
		"quorum 5 with vantage 3":    {[]string{"INNER", "quorum 5"}, "", "quorum 5", "invalid quorum 5: there are 3 vantage points; use a count up to that, or a share, such as 18%"},
		"an unknown property":        {[]string{"INNER", "vantages 3"}, "", "vantages 3", `unknown property "vantages": did you mean "vantage"?`},
		"stanzas that disagree":      {nil, second("name other"), "name other", "fleet: name other, and the stanza at "},
		"stanzas of different sites": {[]string{"INNER", "site ams"}, second("site fra"), "site fra", "fleet: site fra, and the stanza at "},
		"no credentials":             {etcd("credentials DIR/absent"), "", "        fleet etcd", "/absent does not exist"},
		"credentials of one word":    {etcd("credentials DIR/short"), "", "        fleet etcd", "/short is not one line with USER:PASSWORD"},
		"authorities that are none":  {etcd("tls DIR/text"), "", "        fleet etcd", "/text has no certificate"},
		"a certificate that is none": {etcd("tls DIR/text DIR/key"), "", "        fleet etcd", "/text and "},
		"a key beside etcd":          {etcd("key KEY"), "", "            key", "key is for members that talk to each other, and these meet in an etcd: remove it"},
		"two kinds of fleet":         {etcd(""), second(""), "        fleet 127", "this stanza names members, and the stanza at "},
		"a second place":             {nil, strings.Replace(second(""), listen, "listen 127.8.0.NUMBER:9999", 1), ":9999", "a process is a member of one fleet, so write the same"},
	} {
		p := &server{scene: s, n: 1, extra: c.extra}
		p.edit(c.edits...)
		text, _ := os.ReadFile(p.conf)
		line := strings.Count(string(text[:strings.LastIndex(string(text), c.at)]), "\n") + 1
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		out, err := exec.CommandContext(ctx, program(t), "-conf", p.conf).CombinedOutput()
		cancel()
		if err == nil || ctx.Err() == context.DeadlineExceeded {
			t.Errorf("%s: the start does not fail: %v", what, err)
		}
		if at := fmt.Sprintf("%s:%d - Error during parsing: ", p.conf, line); !strings.Contains(string(out), at) || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: want %s…%s:\n%s", what, at, c.want, out)
		}
	}
}

// Names without addresses do not stop a server: it goes on, says so once for each, and probes for itself. A key that every user can read is
// warned of once.
func TestPeersThatAreNotThere(t *testing.T) {
	t.Parallel()
	s := newScene(t, 11, 12)
	if err := os.Chmod(s.dir+"/key", 0o644); err != nil {
		t.Fatal(err)
	}
	s.launch(1, "PEERS", "nothing.example.org nothing.invalid").await()
	p := s.servers[1]
	p.says("no address of the peer nothing.example.org", 1)
	p.says("no address of the peer nothing.invalid", 1)
	p.says("every user of this machine can read", 1)
	s.shared(bound+slack, 1)
	s.backends[12].turn(refuses)
	s.serves(bound+slack, 11)
	p.eventually(patience, func() bool { return time.Since(p.began) > 8*time.Second }, func() string { return "" }) // it has looked again by then
	for _, text := range []string{"nothing.example.org", "nothing.invalid", "every user"} {
		if n := p.output.Count(text); n != 1 {
			t.Errorf("%q is in the log %d times, want once", text, n)
		}
	}
}

// A name that only the servers themselves know leads to the others, also in a block for all names, as in a cluster (B110).
func TestPeersOfTheServersThemselves(t *testing.T) {
	t.Parallel()
	s := newScene(t, 11, 12)
	s.launch(1, "PEERS", "members.example.org")
	s.launch(2, "PEERS", "members.example.org", "example.org:DNS", ".:DNS", "file DIR/zone", "file DIR/zone example.org", "multivalue", "multivalue example.org")
	s.launch(3, "PEERS", "members.example.org", "example.org:DNS", ".:DNS", "file DIR/zone", "file DIR/zone example.org", "multivalue", "multivalue example.org")
	s.joined(patience)
}
