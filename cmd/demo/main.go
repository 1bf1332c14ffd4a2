// Command demo shows what multivalue is for, live, on this machine alone.
//
// It starts two web servers on loopback addresses, and a CoreDNS with the plugin on a free loopback port; asks it over
// UDP, as dig would; stops one web server, and shows its address leaving the answers; starts it again, and shows it come
// back. A machine with a single loopback address, such as a Mac, plays the same with SRV records, which leave and come
// back. The program ends with status 0 if the scene came out right, 1 if not, and 130 if it was interrupted.
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
	wish := wishes{hosts: []string{"127.0.0.11", "127.0.0.12"}}
	flag.BoolVar(&wish.keep, "keep", false, "leave it running at the end, to try by hand")
	flag.IntVar(&wish.port, "port", 0, "port of the DNS server; a free one if 0")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := play(ctx, os.Stdout, wish)
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case interrupted && (err == nil || errors.Is(err, context.Canceled)):
		fmt.Println("\ninterrupted; everything is stopped")
		if !wish.keep {
			os.Exit(130)
		}
	case err != nil:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}
