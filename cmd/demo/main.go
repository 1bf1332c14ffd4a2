// Command demo shows what multivalue does, live, and uses nothing but loopback addresses of this machine.
//
// It starts two web servers, and a CoreDNS with the plugin on a free port, and sends it queries over UDP, as dig does. It
// stops one web server, and shows that its address leaves the answers. It starts the server again, and shows that the
// address comes back. On a machine with a single loopback address, such as a Mac, SRV records leave and come back
// instead. With -fleet it shows three CoreDNS that share the probes, and loses one of them first. It exits with status 0 if every answer came as expected, 1 if not, and 130 if it was interrupted.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if corefile := os.Getenv(memberVariable); corefile != "" {
		if err := serveMember(corefile); err != nil {
			fmt.Fprintln(os.Stderr, "demo:", err)
			os.Exit(1)
		}
		return
	}
	opts := options{hosts: []string{"127.0.0.11", "127.0.0.12"}}
	flag.BoolVar(&opts.keep, "keep", false, "leave everything running at the end, to try it by hand")
	flag.IntVar(&opts.port, "port", 0, "port of the DNS server, the first of three with -fleet; 0 for free ones")
	flag.BoolVar(&opts.fleet, "fleet", false, "show three CoreDNS that share the probes")
	flag.Parse()
	// An interrupt cancels the context. So run returns, and stops the servers and removes its files first.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	scene := run
	if opts.fleet {
		scene = runFleet
	}
	err := scene(ctx, os.Stdout, opts)
	interrupted := ctx.Err() != nil // read before stop, which cancels the context as well
	stop()
	switch {
	case interrupted && (err == nil || errors.Is(err, context.Canceled)):
		fmt.Println("\ninterrupted; everything is stopped")
		if !opts.keep { // with -keep, an interrupt is how the demo is meant to end
			os.Exit(130)
		}
	case err != nil:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}
