package corefile

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/coredns-multivalue/multivalue/plugin/membership"
)

// Here is how a fleet over etcd is read: where the etcd is, and how to use it. Its files are read by the engine, again when they
// change, because their content is not part of the Corefile.

const (
	storeScheme = "etcd:"
	// defaultPrefix is what all keys of a fleet begin with. It is no part of what the plugin etcd or Kubernetes have.
	defaultPrefix = "/multivalue"
	// maxPrefix is the longest prefix, in bytes. Each key of the fleet has it.
	maxPrefix = 255
)

// othersPrefixes are those of other programs in an etcd that would take the keys of a fleet for their own.
var othersPrefixes = map[string]string{"/skydns": "the plugin etcd", "/registry": "Kubernetes"}

// What is right, at the end of errors. Those who know etcd write its URLs, so most of these say where a part of a URL belongs.
var (
	errWebURL    = errors.New("a member is not a URL: for an etcd write etcd://HOST:PORT, and tls in the block of fleet in place of https")
	errEndpoint  = errors.New("use HOST:PORT, such as etcd1.example.org:2379 or 192.0.2.17:2379")
	errMixed     = errors.New("etcd:// stands beside another word: name members, or one etcd:// with commas and no spaces between its endpoints")
	errNoSecret  = errors.New("an endpoint has no user or password: write them to a file, and credentials FILE in the block of fleet")
	errNoPath    = errors.New("an endpoint has no path: write prefix PATH in the block of fleet")
	errPassword  = errors.New("credentials names a file, there is no such file, and this looks like USER:PASSWORD itself: write that into a file that only the user of this process can read, and name the file")
	errOneScheme = errors.New("write etcd:// once, before the first endpoint, and http:// or https:// nowhere: tls in the block of fleet is for https")
)

// namesStore reports whether a word after fleet is meant for an etcd.
func namesStore(arg string) bool { return strings.HasPrefix(strings.ToLower(arg), storeScheme) }

// isWebURL reports whether a word is the URL by which other programs name an etcd.
func isWebURL(arg string) bool {
	arg = strings.ToLower(arg)
	return strings.HasPrefix(arg, "http:") || strings.HasPrefix(arg, "https:")
}

// parseEndpoints reads where an etcd is: one word, with commas between the endpoints. What may hold a password is not quoted.
func parseEndpoints(args []string) (all []string, err error) {
	// A second word may be a member, or what follows a space after a comma. The error is for both.
	if len(args) > 1 {
		return nil, errMixed
	}
	rest, ok := strings.CutPrefix(args[0][len(storeScheme):], "//")
	if !ok {
		return nil, errors.New("etcd: lacks its slashes: write etcd://HOST:PORT")
	}
	// An empty word between two commas is a mistake as much as one at the end: a variable of the environment may be missing.
	for word := range strings.SplitSeq(rest, ",") {
		endpoint, err := parseEndpoint(word)
		switch {
		case err != nil:
			return nil, err
		case slices.Contains(all, endpoint):
			return nil, fmt.Errorf("duplicate endpoint %s: name each once", endpoint)
		}
		all = append(all, endpoint)
	}
	return all, nil
}

// parseEndpoint reads one of them. It needs its port: the usual one is easily taken for that between the servers of the etcd.
func parseEndpoint(word string) (string, error) {
	// The order matters: what may hold a password is found before what quotes the word.
	switch {
	case word == "":
		return "", fmt.Errorf("an endpoint of etcd:// is empty: %w", errEndpoint)
	case strings.Contains(word, "://"):
		return "", errOneScheme
	case strings.Contains(word, "@"):
		return "", errNoSecret
	case strings.Contains(word, "/"):
		return "", errNoPath
	}
	// The rest is as for a member of a fleet without an etcd, so that duplicates are found in every spelling.
	p, err := splitPlace(word)
	if err == nil {
		p.host, err = canonicalHost(p.host)
	}
	switch {
	case errors.Is(err, errNotAHost):
		return "", fmt.Errorf("invalid endpoint %q: %w", word, errEndpoint)
	case err != nil:
		return "", fmt.Errorf("invalid endpoint %q: %w", word, err)
	case p.port == "":
		return "", fmt.Errorf("endpoint %q has no port: write it, such as %s", word, net.JoinHostPort(p.host, "2379"))
	}
	return net.JoinHostPort(p.host, p.port), nil
}

// parseStoreTLS reads the files, in the forms of the plugin etcd: none, CA, CERT KEY, or CERT KEY CA.
func parseStoreTLS(f *Fleet, files []string) error {
	if slices.Contains(files, "") {
		return errors.New("tls with an empty path: name files, or leave them out for the authorities of the system")
	}
	// The authorities are the last of one and of three.
	f.Store.TLS = true
	if len(files)%2 == 1 {
		f.Store.CA = files[len(files)-1]
	}
	if len(files) > 1 {
		f.Store.Cert, f.Store.Key = files[0], files[1]
	}
	return nil
}

// tlsWords are the words after tls. Without files they are a space, and without tls nothing.
func tlsWords(s membership.Store) string {
	if !s.TLS {
		return ""
	}
	files := slices.DeleteFunc([]string{s.Cert, s.Key, s.CA}, func(file string) bool { return file == "" })
	return strings.Join(files, " ") + " "
}

// parseStoreCredentials notes the file with user and password.
func parseStoreCredentials(f *Fleet, value string) error {
	if f.Store.Credentials = value; value == "" {
		return errors.New("credentials without a file: name its path")
	}
	return nil
}

// isPassword reports whether what stands for the file with user and password is rather those themselves. It is not shown then. A file
// may have a colon in its name, too, so it is looked for.
func isPassword(value string, path func(string) string) bool {
	if !strings.Contains(value[len(filepath.VolumeName(value)):], ":") {
		return false
	}
	_, err := os.Stat(path(value))
	return err != nil
}

// parseStorePrefix reads what all keys begin with. A role of etcd has rights on keys by their first bytes, so there is one form only.
func parseStorePrefix(f *Fleet, value string) error {
	odd := func(r rune) bool { return r > unicode.MaxASCII || r == ' ' || !unicode.IsPrint(r) }
	// What etcd would take is more than what can be typed on the line of a command without quotes.
	path, ok := strings.CutPrefix(value, "/")
	if !ok || len(value) > maxPrefix || strings.ContainsFunc(path, odd) {
		return fmt.Errorf("invalid prefix %q: use a path of up to %d printable bytes that begins with a /, such as %s", value, maxPrefix, defaultPrefix)
	}
	// With an empty part, two prefixes would look alike and be apart.
	for part := range strings.SplitSeq(path, "/") {
		if part == "" || part == "." || part == ".." {
			return fmt.Errorf("invalid prefix %q: use a path without empty parts, dots alone and a / at its end, such as %s", value, defaultPrefix)
		}
	}
	// Only the first part counts, since these programs read all that is below it.
	first, _, _ := strings.Cut(path, "/")
	if who, taken := othersPrefixes["/"+first]; taken {
		return fmt.Errorf("invalid prefix %q: %s reads what is below /%s; use another one, such as %s", value, who, first, defaultPrefix)
	}
	f.Store.Prefix = value
	return nil
}
