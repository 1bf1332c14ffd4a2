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

// execOptions are those of exec.
var execOptions = []string{"command"}

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

// newExec builds the check that has a program ask (B44).
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
	// outputLimit is how much of what a program writes is kept. It may write more.
	outputLimit = 4 << 10

	// runLimit is how many programs of one check run at a time.
	runLimit = 64
)

// execArgs are those of the command, and then where to ask.
func execArgs(command []string, addr netip.AddrPort) []string {
	args := append([]string(nil), command[1:]...)
	return append(args, addr.Addr().String(), strconv.Itoa(int(addr.Port())))
}

// execEnviron is all that a program gets: none of the server's own environment, in which there may be secrets.
func execEnviron(addr netip.AddrPort) []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"LC_ALL=C",
		"MULTIVALUE_ADDRESS=" + addr.Addr().String(),
		"MULTIVALUE_PORT=" + strconv.Itoa(int(addr.Port())),
	}
}

// execFailure says how a program ended, and the first line of what it wrote.
func execFailure(how string, output []byte) error {
	line, _, _ := strings.Cut(strings.TrimLeft(string(output), "\r\n\t "), "\n")
	if line = strings.TrimRight(line, "\r\t "); line != "" {
		how += ": " + quote(line)
	}
	return errors.New(how)
}
