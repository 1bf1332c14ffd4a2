package check

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"unicode/utf8"
)

// startable reports why the kernel would refuse to run the file, as far as its beginning shows
// that. A shell runs a text without "#!", but the kernel does not. Binary formats may be registered
// (binfmt_misc), so only text is refused. A file that cannot be read is not judged: to run it, the
// permission to execute is enough.
func startable(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	head := make([]byte, 256) // BINPRM_BUF_SIZE: the kernel looks at no more
	n, err := io.ReadFull(f, head)
	if head = head[:n]; err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil
	}
	line, _, whole := bytes.Cut(head, []byte{'\n'})
	switch {
	case bytes.HasPrefix(head, []byte("#!")):
		if whole && bytes.HasSuffix(line, []byte{'\r'}) {
			return fmt.Errorf("%s has a CR at the end of its first line, which becomes part of the interpreter's name or argument: "+
				"convert its line ends from CRLF to LF", quote(path))
		}
	case isText(head):
		return fmt.Errorf("%s is text without #! at its start, which cannot be run: begin it with a line such as #!/bin/sh", quote(path))
	}
	return nil
}

// isText reports whether the beginning of a file is text. The last character may be cut off.
func isText(head []byte) bool {
	for len(head) > 0 {
		r, size := utf8.DecodeRune(head)
		if r == utf8.RuneError && size == 1 {
			return len(head) < utf8.UTFMax && !utf8.FullRune(head)
		}
		if r < ' ' && r != '\t' && r != '\r' && r != '\n' {
			return false
		}
		head = head[size:]
	}
	return true
}
