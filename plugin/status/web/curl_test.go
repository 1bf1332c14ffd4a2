package web

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"testing"
)

// A check over HTTP is shown as a curl command that asks the same, without values that are never shown.
func TestQuestion(t *testing.T) {
	v4, v6 := netip.MustParseAddrPort("192.0.2.1:8080"), netip.MustParseAddrPort("[2001:db8::1]:443")
	for _, c := range []struct {
		check string
		at    netip.AddrPort
		want  curlCommand
	}{
		{"http://:8080/healthz", v4, curlCommand{"curl -i http://192.0.2.1:8080/healthz", ""}},
		{"http://:8080/a?b=1&c=2 status 200", v4, curlCommand{"curl -i 'http://192.0.2.1:8080/a?b=1&c=2'", "status 200"}},
		{"http:/// proxy_protocol status 200", v4, curlCommand{"curl -i --haproxy-protocol http://192.0.2.1:8080/", "proxy_protocol status 200"}},
		{"https:/// insecure", v6, curlCommand{"curl -i -k 'https://[2001:db8::1]/'", "insecure"}},
		{"http://192.0.2.9:8080/x", v4, curlCommand{"curl -i --connect-to ::192.0.2.1:8080 http://192.0.2.9:8080/x", ""}},
		{"https://:443/ server_name 192.0.2.9", v4, curlCommand{"curl -i -H 'Host: 192.0.2.1:8080' --connect-to ::192.0.2.1:8080 https://192.0.2.9:8080/", "server_name 192.0.2.9"}},
		{"http:///a[1-3]?x={a,b}", v4, curlCommand{"curl -i -g 'http://192.0.2.1:8080/a[1-3]?x={a,b}'", ""}},
		{"https://:443/ insecure cert ~root/a:b key =k", v4, curlCommand{`curl -i -k --cert '~root/a\:b' --key '=k' https://192.0.2.1:8080/`, "insecure cert ~root/a:b key =k"}},
		{"https://www.example.org/", v6, curlCommand{"curl -i --connect-to '::[2001:db8::1]:443' https://www.example.org/", ""}},
		{"https://www.example.org/", v4, curlCommand{"curl -i --connect-to ::192.0.2.1:8080 https://www.example.org:8080/", ""}},
		{"http://:8080/ host owner", v4, curlCommand{"curl -i --connect-to ::192.0.2.1:8080 http://name.example.org:8080/", "host owner"}},
		{"http://:8080/$(id)", v4, curlCommand{"curl -i 'http://192.0.2.1:8080/$(id)'", ""}},
		{"http://:8080/ method HEAD", v4, curlCommand{"curl -i -I http://192.0.2.1:8080/", "method HEAD"}},
		{"http://:8080/ method OPTIONS from 192.0.2.9 from 2001:db8::9", v4, curlCommand{"curl -i -X OPTIONS --interface 192.0.2.9 http://192.0.2.1:8080/", "method OPTIONS from 192.0.2.9 from 2001:db8::9"}},
		{"http://:8080/ header X-A … basic_auth /etc/probe body \"insecure bearer x\"", v4, curlCommand{"curl -i http://192.0.2.1:8080/", "header X-A … basic_auth /etc/probe body \"insecure bearer x\"; the command leaves out header X-A, basic_auth /etc/probe"}},
		{"https:/// server_name sni.example", v6, curlCommand{"curl -i -H 'Host: [2001:db8::1]' --connect-to '::[2001:db8::1]:443' https://sni.example/", "server_name sni.example"}},
		{"https://www.example.org:8443/ server_name sni.example ca \"/a b\" cert c key k alpn h2", v4, curlCommand{"curl -i --cacert '/a b' --cert c --key k --http2 -H 'Host: www.example.org:8080' --connect-to ::192.0.2.1:8080 https://sni.example:8080/", "server_name sni.example ca \"/a b\" cert c key k alpn h2"}},
		{"tcp://:5432", v4, curlCommand{"", "tcp://:5432"}},
	} {
		if got := curlFor(c.check, c.at, "name.example.org."); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.check, got, c.want)
		}
	}
}

// The command makes curl ask what the check asks: the method, the path, the host, the TLS server name and the address.
func TestCurlAsks(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("*** SKIPPED: there is no curl ***")
	}
	asked := make(chan string, 1)
	server := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- r.Method + " " + r.Host + " " + r.TLS.ServerName + " " + r.RequestURI
	}))
	defer server.Close()
	at := netip.MustParseAddrPort(server.Listener.Addr().String())
	port := ":" + strconv.Itoa(int(at.Port()))
	for check, want := range map[string]string{
		"https:///a?b=1&c=it's insecure":                                      "GET 127.0.0.1" + port + "  /a?b=1&c=it's",
		"https://www.example.org/ method HEAD insecure":                       "HEAD www.example.org" + port + " www.example.org /",
		"https://www.example.org/ method POST server_name a.example insecure": "POST www.example.org" + port + " a.example /",
		"https:/// server_name a.example insecure alpn http/1.1":              "GET 127.0.0.1" + port + " a.example /",
		"https:/// host owner insecure":                                       "GET name.example.org" + port + " name.example.org /",
	} {
		q := curlFor(check, at, "name.example.org.")
		out, err := exec.Command("sh", "-c", q.Command).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %s: %v\n%s", check, q.Command, err, out)
			continue
		}
		if got := <-asked; got != want {
			t.Errorf("%s: %s asks %q, want %q", check, q.Command, got, want)
		}
	}
}

// A quoted word comes out of a shell unchanged.
func TestShell(t *testing.T) {
	for _, word := range []string{"http://192.0.2.1/", "a b", "it's", "$(echo no)", "`echo no`", `a\b"c`, "a;b&c|d<e", "*", "''"} {
		out, err := exec.Command("sh", "-c", "printf %s "+shellQuote(word)).Output()
		if err != nil || string(out) != word {
			t.Errorf("%q comes out as %q, %v", word, out, err)
		}
	}
}
