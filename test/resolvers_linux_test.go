package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/coredns-multivalue/multivalue/internal/namespaces"
)

// lookUp is a program that looks a name up as most programs do: addresses of both families.
const lookUp = `
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

int main(int n, char **words) {
	struct addrinfo *all, *a, hints;
	memset(&hints, 0, sizeof hints);
	hints.ai_socktype = SOCK_STREAM;
	if (getaddrinfo(words[1], 0, &hints, &all) != 0) {
		puts("failed");
		return 0;
	}
	for (a = all; a; a = a->ai_next) {
		char text[INET6_ADDRSTRLEN];
		void *raw = a->ai_family == AF_INET ? (void *)&((struct sockaddr_in *)a->ai_addr)->sin_addr
			: (void *)&((struct sockaddr_in6 *)a->ai_addr)->sin6_addr;
		puts(inet_ntop(a->ai_family, raw, text, sizeof text));
	}
	return 0;
}
`

const dualStack = `
example.org:53 {
    bind 127.0.0.1
    file DIR/example.org
    multivalue {
        QUICK
        within fd00::/8
        all_down POLICY
    }
}`

// If one address family of a name is down and the other is up, all_down servfail makes musl's resolver
// fail the whole look-up, and that of glibc not. With nodata and serve both find the address that is
// up. This is what the manual says where all_down is chosen.
func TestResolversOfDualStack(t *testing.T) {
	for _, program := range []string{"ip", "gcc", "musl-gcc"} {
		needsProgram(t, program)
	}
	if !namespaces.Rerun(t, syscall.CLONE_NEWNET|syscall.CLONE_NEWNS) {
		return
	}
	dir := t.TempDir()
	must := func(words ...string) {
		t.Helper()
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", words, err, out)
		}
	}
	if out, err := exec.Command("ip", "addr", "add", "fd00::11/128", "dev", "lo", "nodad").CombinedOutput(); err != nil {
		lacking(t, "IPv6 does not work: "+string(out))
	}
	file := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file("lookup.c", lookUp)
	for libc, compiler := range map[string]string{"musl": "musl-gcc", "glibc": "gcc"} {
		must(compiler, "-o", filepath.Join(dir, libc), filepath.Join(dir, "lookup.c"))
	}
	// The mounts are this process's own.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{"/etc/resolv.conf": "nameserver 127.0.0.1\n", "/etc/nsswitch.conf": "hosts: dns\n"} {
		if _, err := os.Stat(path); err != nil && path != "/etc/resolv.conf" {
			continue
		}
		if err := syscall.Mount(file(filepath.Base(path), text), path, "", syscall.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
	}
	for policy, want := range map[string]struct{ musl, glibc string }{
		"servfail": {"failed", "fd00::11"},
		"nodata":   {"fd00::11", "fd00::11"},
		"serve":    {"127.0.0.11 127.0.0.12 fd00::11", "127.0.0.11 127.0.0.12 fd00::11"},
	} {
		t.Run(policy, func(t *testing.T) {
			s := newScene(t)
			up := s.listen("fd00::11", answerHTTP)
			defer up.close()
			s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\nwww AAAA fd00::11\nwww AAAA fd00::12")
			v := s.serve(replace(dualStack, "POLICY", policy))
			v.ask("www.example.org A")
			v.ask("www.example.org AAAA")
			v.settled(1, 3)
			for libc, want := range map[string]string{"musl": want.musl, "glibc": want.glibc} {
				out, err := exec.Command(filepath.Join(dir, libc), "www.example.org").Output()
				if got := strings.Join(slices.Sorted(strings.FieldsSeq(string(out))), " "); err != nil || got != want {
					t.Errorf("%s: %v, %q, want %q", libc, err, got, want)
				}
			}
		})
	}
}
