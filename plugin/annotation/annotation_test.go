package annotation_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/annotation"
	"github.com/coredns-multivalue/multivalue/plugin/check"
)

// These texts are valid in an annotation, and make these checks.
func TestAnnotation(t *testing.T) {
	for text, want := range map[string]string{
		"http://:8080/healthz":                    "http://:8080/healthz",
		"http://:8080":                            "http://:8080/",
		"HTTP://:80/A%2fb":                        "http://:80/A%2fb",
		"  http://:8080/healthz\tstatus 200,204 ": "http://:8080/healthz status 200,204",
		"http://:8080//evil.example/":             "http://:8080//evil.example/",
		"http://:8080/@x:y":                       "http://:8080/@x:y",
		"https://:8443/live status 200-299":       "https://:8443/live status 200-299 insecure",
		"tcp://:5432":                             "tcp://:5432",
		"tcp://:65535":                            "tcp://:65535",
	} {
		c, err := annotation.Parse(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if c.String() != want {
			t.Errorf("%q makes %s, want %s", text, c, want)
		}
	}
}

// These texts are refused in an annotation. Each has a word of its error.
func TestAnnotationRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                                         "empty",
		" \n":                                      "empty",
		"8080":                                     "unsupported scheme",
		"icmp:":                                    "unsupported scheme",
		"exec:///bin/sh":                           "unsupported scheme",
		"tls://:443":                               "unsupported scheme",
		"dns://:53/example.org":                    "unsupported scheme",
		"redis://:6379":                            "unsupported scheme",
		"agent://:9777":                            "unsupported scheme",
		"file:///etc/passwd":                       "unsupported scheme",
		"http:/:8080/":                             "unsupported scheme",
		"http://":                                  "invalid port",
		"http:///healthz":                          "invalid port",
		"tcp://":                                   "invalid port",
		"http://:/healthz":                         "invalid port",
		"http://:0/":                               "invalid port",
		"http://:080/":                             "invalid port",
		"http://:+80/":                             "invalid port",
		"http://:65536/":                           "invalid port",
		"http://:http/":                            "invalid port",
		"http://:8080:9090/":                       "invalid port",
		"http://www.example.org/":                  "host",
		"http://169.254.169.254:80/":               "host",
		"http://[::1]:80/":                         "host",
		"http://user:secret@:80/":                  "host",
		"http://:secret@evil.example:80/":          "invalid port",
		"http://:8080@evil.example/":               "invalid port",
		"http://:8080/?a=b":                        "query",
		"http://:8080/#a":                          "query",
		"http://:8080/%zz":                         "invalid url",
		"http://:8080/ä":                           "percent-encoded",
		"http://:8080/ body ok":                    "status",
		"http://:8080/ body_regex .*":              "status",
		"http://:8080/ header Authorization":       "status",
		"http://:8080/ method POST":                "status",
		"http://:8080/ hold":                       "status",
		"http://:8080/ weight_header X-Weight":     "status",
		"http://:8080/ insecure":                   "status",
		"http://:8080/ status":                     "status",
		"http://:8080/ limit 200":                  "only status",
		"http://:8080/ status 200 hold":            "status",
		"http://:8080/ status 200 status 2":        "status",
		"http://:8080/ status 2xx":                 "status",
		"http://:8080/ limit 100":                  "status",
		"http://:8080/ interval 1s":                "status",
		"https://:8443/ ca /etc/ca.pem":            "status",
		"https://:8443/ server_name a.b":           "status",
		"tcp://:5432 status 200":                   "status",
		"tcp://:5432/path":                         "path",
		"http://:8080/" + strings.Repeat("a", 512): "longer than 512",
	} {
		c, err := annotation.Parse(text)
		if err == nil {
			t.Errorf("%q makes %s", text, c)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want something about %s", text, err, want)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error contains the password: %v", text, err)
		}
	}
}

// A scheme that package check does not know is refused, without a panic.
func TestAnnotationAsFarAsCheckKnows(t *testing.T) {
	for _, scheme := range []string{"tcp", "http", "https", "grpc"} {
		_, known := check.New(scheme + "://:8080")
		if scheme == "https" {
			_, known = check.New(scheme+"://:8080", check.Option{Name: "insecure"})
		}
		if _, err := annotation.Parse(scheme + "://:8080"); (err == nil) != (known == nil) {
			t.Errorf("%s: %v in this package, %v in package check", scheme, err, known)
		}
	}
	if c, err := annotation.Parse("grpc://:50051/my.Service"); err == nil && c.String() != "grpc://:50051/my.Service" {
		t.Errorf("the check is %s", c)
	} else if err != nil && !strings.Contains(err.Error(), "grpc") {
		t.Errorf("%v does not name the unknown part", err)
	}
}

// Whatever the text of an annotation is, its check has only a scheme, a port, a path and statuses, and the text of
// the check parses to the same check.
func FuzzAnnotation(f *testing.F) {
	for _, text := range []string{"http://:8080/healthz", "https://:8443/a status 200-299,404", "tcp://:5432", "grpc://:1/a.B",
		"http://user:pass@host:80/?q#f", "http://:80/ header a b", "exec:///bin/sh"} {
		f.Add(text)
	}
	subset := regexp.MustCompile(`^(?:(?:http|https)://:[1-9][0-9]{0,4}/[^?# ]*( status [0-9,-]+)?( insecure)?|tcp://:[1-9][0-9]{0,4}|grpc://:[1-9][0-9]{0,4}(/[^?# ]*)?)$`)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := annotation.Parse(text)
		if err != nil {
			return
		}
		got := c.String()
		if !subset.MatchString(got) || c.Secret() != 0 || c.Hold() || !c.PortNamed() || c.Port() == 0 {
			t.Fatalf("%q makes %s", text, got)
		}
		if strings.HasSuffix(got, " insecure") != strings.HasPrefix(got, "https:") {
			t.Fatalf("%q makes %s", text, got)
		}
		again, err := annotation.Parse(strings.TrimSuffix(got, " insecure"))
		if err != nil || again.String() != got {
			t.Fatalf("%q makes %s, and that %v, %v", text, got, again, err)
		}
	})
}
