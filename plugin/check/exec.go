package check

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"
)

// execOptions are the options of exec alone.
var execOptions = []string{"command"}

// setCommand parses the option command. The program must be an absolute path: a relative one would
// depend on the working directory of the server, and a search would depend on its PATH. That the
// program can be run is checked now, to find a mistake when the configuration is loaded, and again
// by each probe.
func setCommand(s *settings, v []string) (shown []string, hidden []byte, err error) {
	if !filepath.IsAbs(v[0]) {
		return nil, nil, fmt.Errorf("%s is not an absolute path: write the full path of the program", quote(v[0]))
	}
	for _, arg := range v {
		if strings.ContainsRune(arg, 0) || !utf8.ValidString(arg) {
			return nil, nil, fmt.Errorf("argument %s is not valid text: use UTF-8 without NUL", quote(arg))
		}
	}
	s.command = v
	return v, nil, runnable(v[0])
}

// newExec builds the check that runs a program, which is healthy if its exit status is 0 (B44).
func newExec(s *spec) (prober, error) {
	if err := errors.Join(s.refuseHost(), s.refusePath()); err != nil {
		return nil, err
	}
	if len(s.command) == 0 {
		return nil, fmt.Errorf("exec needs a program: write check %s { command /usr/local/bin/probe }, on lines of their own", s.scheme.example)
	}
	return newRunner(s.command), nil
}

const (
	// outputLimit is how much of the output of a program is kept, in bytes. The program may write
	// more, which is read and dropped.
	outputLimit = 4 << 10

	// runLimit is how many programs of one check run at a time. It bounds what a slow program can
	// cost the host.
	runLimit = 64
)

// execArgs are the arguments from the configuration, then the address and the port to ask.
func execArgs(command []string, addr netip.AddrPort) []string {
	args := append([]string(nil), command[1:]...)
	return append(args, addr.Addr().String(), strconv.Itoa(int(addr.Port())))
}

// execEnviron is the whole environment of a program. It has nothing of the environment of the
// server, which may contain secrets.
func execEnviron(addr netip.AddrPort) []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"LC_ALL=C",
		"MULTIVALUE_ADDRESS=" + addr.Addr().String(),
		"MULTIVALUE_PORT=" + strconv.Itoa(int(addr.Port())),
	}
}

// execFailure is a reason: how the program ended, and the first line of its output that is not
// empty.
func execFailure(how string, output []byte) error {
	if line := firstLine(output); line != "" {
		how += ": " + line
	}
	return errors.New(how)
}

// firstLine is the first line of the output that is not empty, in quotes; "" if there is none.
func firstLine(output []byte) string {
	line, _, _ := strings.Cut(strings.TrimLeft(string(output), "\r\n\t "), "\n")
	if line = strings.TrimRight(line, "\r\t "); line == "" {
		return ""
	}
	return quote(line)
}
